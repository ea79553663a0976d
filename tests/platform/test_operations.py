"""docs/operations.md: what can be run here is run, and what needs a cluster names only things that exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labels.conftest import PostgresServer
from support import parsed

from posewatch.labels.entries import ClipEntry
from posewatch.labels.store import LabelStore
from posewatch.records import Clip, clip_id, video_id

from .chart import CHART, EXAMPLES, ROOT, render, tool

TEXT = (ROOT / "docs" / "operations.md").read_text()
CLUSTER = "# on a cluster"
KINDS = {
    "deploy": "Deployment", "sts": "StatefulSet", "cronjob": "CronJob", "secret": "Secret", "svc": "Service", "pvc":
    "PersistentVolumeClaim",
}  # fmt: skip


def blocks() -> list[list[str]]:
    return [text.strip().splitlines() for text in re.findall(r"^```sh\n(.*?)^```", TEXT, re.M | re.S)]


def commands(on_a_cluster: bool) -> list[str]:
    chosen = [lines for lines in blocks() if (lines[0] == CLUSTER) is on_a_cluster]
    return [line for lines in chosen for line in lines if line != CLUSTER]


@pytest.fixture
def labels(tmp_path: Path) -> Iterator[tuple[PostgresServer, list[ClipEntry]]]:
    server = PostgresServer()
    try:
        server.start()
        video = video_id("b" * 64)
        clips = [Clip(clip_id(video, i, 1.0), video, float(i), 1.0, 10.0, 10, 64, 48, 1.0) for i in range(6)]
        entries = [ClipEntry(clip, ("a.mp4",), f"clips/{clip.id}.mp4", "memory://x") for clip in clips]
        for url in (server.database("labels"), f"sqlite:///{tmp_path / 'labels.db'}"):
            store = LabelStore(url)
            store.register(entries)
            store.set_label(clips[0].id, "abnormal", "ann", "human")
            store.close()
        yield server, entries
        server.kill()
    finally:
        server.remove()


def test_every_other_command_runs_as_it_stands(labels: tuple[PostgresServer, list[ClipEntry]], tmp_path: Path) -> None:
    server, entries = labels
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    python = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{Path(tool('helm')).parent}:{binaries}:{python}:{os.environ['PATH']}"}
    env |= {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "posewatch"}
    env |= {"POSEWATCH_LABELS_URL": f"sqlite:///{tmp_path / 'labels.db'}"}
    (tmp_path / "helm").symlink_to(ROOT / "helm")
    ran = commands(on_a_cluster=False)
    assert len(ran) >= 9
    for command in ran:
        words = ["bash", "-euo", "pipefail", "-c", command]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        if "integrity_check" in command:
            assert done.stdout.strip() == "ok"
    assert "kind: Deployment" in (tmp_path / "all.yaml").read_text()
    assert "abnormal" in (tmp_path / "audit.csv").read_text()
    for url in (f"{server.url}/restored", f"sqlite:///{tmp_path / 'labels-copy.db'}"):
        store = LabelStore(url)
        assert store.counts() == {"abnormal": 1}
        assert store.history(entries[0].clip.id)[0].who == "ann"
        store.close()


def test_commands_for_a_cluster_are_shell_and_are_marked() -> None:
    for lines in blocks():
        subprocess.run(["bash", "-n", "-c", "\n".join(lines)], check=True, timeout=20)
    assert len(commands(on_a_cluster=True)) > 20
    for command in commands(on_a_cluster=False):
        assert not re.match(r"kubectl|helm (upgrade|install|test|rollback)|mc ", command), f"mark it: {command}"


def test_what_they_name_is_there() -> None:
    there: set[tuple[str, str]] = set()
    for values in EXAMPLES:
        there |= {(b["kind"], b["metadata"]["name"]) for b in render(values)}
    made = set(re.findall(r"create secret generic (\S+)", TEXT))
    named = re.findall(r"\b(deploy|sts|cronjob|svc|pvc)/([a-z][\w-]+)", TEXT)
    assert len(named) > 8
    for short, name in named:
        assert (KINDS[short], name) in there, f"{short}/{name}"
    for name in re.findall(r"(?:get|edit|patch) secret ([a-z][\w-]+)", TEXT):
        assert ("Secret", name) in there or name in made, name
    for key in re.findall(
        r"`((?:labeling|serving|monitoring|networkPolicy|postgresql|secrets|watcher|rbac)\.[\w.]+)`", TEXT
    ):
        value: object = _values()
        for part in key.split("."):
            if isinstance(value, dict) and part in value:
                value = value[part]
            else:
                assert key.split(".")[0] in ("serving",), f"{key} is no value of the chart"
                assert hasattr(_serving(), key.split(".")[1]), f"{key} is no value of the chart nor of an experiment"
                break


def _values() -> dict[str, object]:
    import yaml

    found: dict[str, object] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def _serving() -> object:
    from posewatch.config import ServingConfig

    return ServingConfig()


def test_commands_of_posewatch_are_understood() -> None:
    found = [c for c in commands(True) + commands(False) if c.startswith("posewatch ")]
    assert len(found) >= 6
    for command in found:
        parsed(shlex.split(command)[1:])  # raises for what the command line does not know


def test_helm_knows_its_options() -> None:
    for verb in ("upgrade", "rollback", "history", "test", "template", "lint"):
        help_ = subprocess.run([tool("helm"), verb, "--help"], capture_output=True, text=True, check=True).stdout
        for command in commands(True) + commands(False):
            if command.startswith(f"helm {verb} "):
                for option in re.findall(r"--[a-z-]+", re.sub(r"\$\(.*?\)", "", command)):
                    assert option in help_, f"helm {verb} has no {option}"


@pytest.mark.parametrize(
    ("namespace", "env", "says"),
    [
        ("fresh", {"KUBECONFIG": ""}, "set KUBECONFIG to the cluster"),
        ("fresh", {"KUBECONFIG": "/nowhere"}, "the cluster does not answer"),
        ("posewatch", {}, "the namespace posewatch exists"),
        ("fresh", {"KF_PIPELINES_ENDPOINT": "http://127.0.0.1:1"}, "say SOURCE, LABELS and STORE"),
    ],
)
def test_a_trial_on_a_cluster_begins_with_a_look(api: Any, namespace: str, env: dict[str, str], says: str) -> None:
    """make test-cluster touches nothing that was there before."""
    path = f"{Path(tool('kubectl')).parent}:{os.environ['PATH']}"
    command = [sys.executable, str(ROOT / "helm" / "try_cluster.py"), "--namespace", namespace]
    told = {**os.environ, "PATH": path, **env}
    done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("test-cluster: ")]
    assert says in line
    assert "delete namespace" not in done.stdout
    names = [o["metadata"]["name"] for o in api("GET", "/api/v1/namespaces")["items"]]
    assert sorted(names) == ["default", "posewatch"]
