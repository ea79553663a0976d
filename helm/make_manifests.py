"""The kustomize overlays of manifests/, from the chart. ``python helm/make_manifests.py`` (`make manifests`).

An overlay is the base and ``chart.yaml``: what the chart makes of the overlay's ``values.yaml``, less what is in the
base, the test pod, and what only helm needs. So people without helm get the same objects; a test holds them equal.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "posewatch"
MANIFESTS = ROOT / "manifests"
OVERLAYS = {"standalone": "posewatch", "kubeflow": "team-a"}
"""Overlay: the namespace that it is made for."""
HEAD = (
    "# Made by `make manifests` from helm/posewatch and values.yaml: change those, and the rest in a kustomization.\n"
)
HELM_ONLY = ("app.kubernetes.io/managed-by", "helm.sh/chart")


def rendered(name: str, helm: str) -> list[dict[str, Any]]:
    """All objects that the chart makes for an overlay, without helm's own labels; hooks are left out."""
    command = [helm, "template", "posewatch", str(CHART), "--no-hooks", "--namespace", OVERLAYS[name]]
    command += ["--values", str(MANIFESTS / "overlays" / name / "values.yaml")]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    bodies = [body for body in yaml.safe_load_all(text) if body]
    for body in bodies:
        _without_helm(body)
    return sorted(bodies, key=identity)


def _without_helm(node: Any) -> None:
    if isinstance(node, dict):
        labels = node.get("labels")
        if isinstance(labels, dict):
            for key in HELM_ONLY:
                labels.pop(key, None)
        notes = node.get("annotations")
        if isinstance(notes, dict):
            notes.pop("helm.sh/resource-policy", None)
            if not notes:
                del node["annotations"]
        for value in node.values():
            _without_helm(value)
    elif isinstance(node, list):
        for value in node:
            _without_helm(value)


def identity(body: dict[str, Any]) -> tuple[str, str, str]:
    """(API, kind, name): no two objects of an overlay share it."""
    return body["apiVersion"], body["kind"], body["metadata"]["name"]


def base() -> set[tuple[str, str, str]]:
    """What the base holds."""
    told = yaml.safe_load((MANIFESTS / "base" / "kustomization.yaml").read_text())["resources"]
    return {identity(b) for name in told for b in yaml.safe_load_all((MANIFESTS / "base" / name).read_text())}


def text(name: str, helm: str) -> str:
    """The content of an overlay's chart.yaml."""
    there = base()
    bodies = [body for body in rendered(name, helm) if identity(body) not in there]
    return HEAD + yaml.safe_dump_all(bodies, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    for overlay in OVERLAYS:
        target = MANIFESTS / "overlays" / overlay / "chart.yaml"
        half = target.with_suffix(".half")
        half.write_text(text(overlay, sys.argv[1] if len(sys.argv) > 1 else "helm"), encoding="utf-8")
        half.replace(target)
        print(target)
