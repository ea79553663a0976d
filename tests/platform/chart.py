"""The chart, rendered by the real helm; what a pod is, wherever it stands in an object."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import subprocess
import sys
import urllib.error
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "posewatch"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
NAMESPACE = "posewatch"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Body = dict[str, Any]


@functools.cache
def tool(name: str) -> str:
    """``helm`` or ``kubectl`` of the versions that the chart is tested with; skips where they cannot be had."""
    kube_tools = load_script(ROOT / ".ci" / "kube_tools.py")
    try:
        return str(kube_tools.install() / name)
    except kube_tools.ToolsError as error:
        found = shutil.which(name)
        if found and name == "helm":
            return found
        pytest.skip(str(error))


def load_script(path: Path) -> ModuleType:
    """A Python file that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def helm(*arguments: str, check: bool = True, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm; with ``check`` a failure shows what it said."""
    done = subprocess.run([tool("helm"), *arguments], capture_output=True, text=True, env=env, timeout=120, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


@functools.cache
def _text(files: tuple[str, ...], sets: tuple[str, ...], namespace: str) -> str:
    told = [word for name in files for word in ("--values", name)] + [word for one in sets for word in ("--set", one)]
    return helm("template", "posewatch", str(CHART), "--namespace", namespace, *told).stdout


def render(*files: Path, sets: Sequence[str] = (), namespace: str = NAMESPACE) -> list[Body]:
    """All objects of the chart with these values files and ``--set`` values, hooks included."""
    text = _text(tuple(map(str, files)), tuple(sets), namespace)
    return [body for body in yaml.load_all(text, LOADER) if body]


def pods(objects: Sequence[Body]) -> Iterator[tuple[str, Body, Body]]:
    """(name, metadata, spec) of every pod that an object is or makes."""
    for body in objects:
        name = f"{body['kind']}/{body['metadata']['name']}"
        if body["kind"] == "Pod":
            yield name, body["metadata"], body["spec"]
        elif body["kind"] in ("Deployment", "StatefulSet", "Job"):
            template = body["spec"]["template"]
            yield name, template["metadata"], template["spec"]
        elif body["kind"] == "CronJob":
            template = body["spec"]["jobTemplate"]["spec"]["template"]
            yield name, template["metadata"], template["spec"]


def named(objects: Sequence[Body], kind: str, name: str) -> Body:
    """The one object of that kind and name."""
    (found,) = [b for b in objects if b["kind"] == kind and b["metadata"]["name"] == name]
    return found


def teach(api: Any, body: Body) -> None:
    """Make the stand-in API server take any fields of a kind that it does not know, or checks too strictly to apply."""
    group, _, version = body["apiVersion"].rpartition("/")
    if group == "serving.kserve.io" or body["kind"] == "Deployment" or (not group and body["kind"] != "ServiceAccount"):
        return
    plural = {"NetworkPolicy": "networkpolicies"}.get(body["kind"], body["kind"].lower() + "s")
    kinds = {dict: "object", list: "array", bool: "boolean"}
    fields = {key: {"type": kinds[type(value)]} for key, value in body.items() if type(value) in kinds}
    for field in fields.values():
        if field["type"] == "object":
            field["x-kubernetes-preserve-unknown-fields"] = True  # type: ignore[assignment]
    schema = {"type": "object", "properties": fields, "x-kubernetes-preserve-unknown-fields": True}
    names = {"plural": plural, "kind": body["kind"], "singular": body["kind"].lower()}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [served]}
    made = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": spec}
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    try:
        api("POST", path, {**made, "metadata": {"name": f"{plural}.{group or 'core'}"}})
    except urllib.error.HTTPError as error:
        if error.code != 409:  # it knows it already
            raise


def watcher_group(*sets: str) -> tuple[Body, Body, list[Body]]:
    """What the one watcher of a group reads, its StatefulSet, and where it may go."""
    camera = ("watcher.groups.one.cameras[0].name=door", "watcher.groups.one.cameras[0].url=rtsp://10.0.0.7/1")
    objects = render(sets=(*camera, *sets))
    read = yaml.load(named(objects, "ConfigMap", "posewatch-watcher-one")["data"]["cameras.yaml"], LOADER)
    policy = named(objects, "NetworkPolicy", "posewatch-watcher")
    return read, named(objects, "StatefulSet", "posewatch-watcher-one"), policy["spec"]["egress"]
