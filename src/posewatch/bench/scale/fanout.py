"""How large a run of ``prepare`` becomes: shards, pods, and the record that the workflow engine keeps of them.

No Kubeflow server is needed: the pipeline is compiled, and a record is built of the fields that Argo keeps of a node,
filled with what the compiled pipeline says. Argo packs the nodes (gzip, base64) when a workflow exceeds 1 MiB, and
gives up when that does not fit either (argo-workflows, workflow/packer); etcd's own limit on a request is 1.5 MiB.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from posewatch.config import load
from posewatch.errors import InputError
from posewatch.stages.shards import MOST

LIMIT = 1024 * 1024
ARGUMENT = 128 * 1024
"""Bytes of one argument of a process on Linux: the list of all shards goes into one."""


@dataclass(frozen=True)
class Fanout:
    """One run of ``shards`` shards: ``pods`` and ``nodes`` in its record, whose size is ``plain`` and ``packed``
    bytes; ``argument`` bytes are the list of shards that the last steps get."""

    shards: int
    pods: int
    nodes: int
    plain: int
    packed: int
    argument: int


def compiled(folder: Path) -> dict[str, Any] | None:
    """The specification of ``prepare``, compiled as a user does; None outside a checkout, where no pipelines are.

    Raises InputError when it cannot be compiled.
    """
    if not Path("pipelines/__main__.py").is_file():
        return None
    names = {"POSEWATCH_IMAGES": "registry.example/posewatch", "POSEWATCH_TAG": "0123456789ab", "POSEWATCH_IMAGE": ""}
    command = [sys.executable, "-m", "pipelines", "compile", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **names})
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"the pipelines cannot be compiled: {said}")
    path = folder / "prepare.yaml"
    return {"bytes": path.stat().st_size, "spec": next(iter(yaml.safe_load_all(path.read_text(encoding="utf-8"))))}


def steps(spec: dict[str, Any]) -> tuple[int, int]:
    """Steps of the pipeline outside the loop over shards, and inside."""
    inside = outside = 0
    components = spec["components"]
    names = {task["componentRef"]["name"] for task in _tasks(spec) if "parameterIterator" in task}
    for name, component in {**components, "": spec["root"]}.items():
        leaves = [t for t in component.get("dag", {}).get("tasks", {}).values()
                  if "executorLabel" in components[t["componentRef"]["name"]]]  # fmt: skip
        if name in names:
            inside += len(leaves)
        else:
            outside += len(leaves)
    return outside, inside


def _tasks(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [t for c in [spec["root"], *spec["components"].values()] for t in c.get("dag", {}).get("tasks", {}).values()]


def record(shards: int, outside: int, inside: int) -> Fanout:
    """Size a run. Each step is a driver pod, a group and the pod itself; each shard a group with its driver."""
    config = load().to_json()
    nodes: dict[str, Any] = {}

    def add(kind: str, what: str, told: dict[str, str]) -> None:
        name = hashlib.sha1(f"{shards}/{len(nodes)}".encode()).hexdigest()
        where = f"posewatch-prepare-x7k2p-{int(name[:8], 16)}"
        nodes[where] = {
            "id": where, "name": f"posewatch-prepare-x7k2p.{what}.{name[:10]}", "displayName": what, "type": kind,
            "templateName": f"system-{what}", "templateScope": "local/posewatch-prepare-x7k2p", "phase": "Succeeded",
            "boundaryID": f"posewatch-prepare-x7k2p-{int(name[8:16], 16)}", "progress": "1/1",
            "startedAt": f"2026-01-01T0{len(nodes) % 10}:{len(nodes) % 60:02}:00Z", "hostNodeName": "gpu-node-1",
            "finishedAt": f"2026-01-01T0{len(nodes) % 10}:{(len(nodes) + 7) % 60:02}:00Z",
            "resourcesDuration": {"cpu": int(name[:4], 16), "memory": int(name[4:8], 16)},
            "inputs": {"parameters": [{"name": k, "value": v} for k, v in told.items()]},
            "outputs": {"parameters": [{"name": "execution-id", "value": str(int(name[:6], 16))}], "exitCode": "0"},
            "children": [f"posewatch-prepare-x7k2p-{int(name[16:24], 16)}"],
        }  # fmt: skip

    def step(part: str) -> None:
        values = {"store": "s3://posewatch", "raw": part, "config": config}
        patch = json.dumps({"containers": [{"image": "registry.example/posewatch-masking:abc123def456", "command": [
            "--execution_id", "--executor_input", json.dumps({"inputs": {"parameterValues": values}})]}]})  # fmt: skip
        add("Pod", "container-driver", {"component": "mask", "task": "mask", "parent-dag-id": "17"})
        add("DAG", "container-executor", {"pod-spec-patch": patch})
        add("Pod", "container-impl", {"pod-spec-patch": patch})

    parts = [f"s3://posewatch/sets/ingest/{hashlib.sha1(str(i).encode()).hexdigest()[:12]}" for i in range(shards)]
    for part in parts:
        add("Pod", "dag-driver", {"iteration-index": "1", "component": "comp-for-loop-1"})
        add("DAG", "iteration", {"parent-dag-id": "17"})
        for _ in range(inside):
            step(part)
    for _ in range(outside):
        step(parts[0])
    plain = json.dumps(nodes, separators=(",", ":")).encode()
    packed = len(base64.b64encode(gzip.compress(plain, 9, mtime=0)))
    pods = shards * (1 + 2 * inside) + 2 * outside
    return Fanout(shards, pods, len(nodes), len(plain), packed, len(json.dumps(parts)))


def measure() -> dict[str, Any]:
    """The compiled pipeline and runs of several sizes; ``fits`` is the largest number of shards whose record fits."""
    with tempfile.TemporaryDirectory(prefix="posewatch-scale-") as temp:
        made = compiled(Path(temp))
    outside, inside = steps(made["spec"]) if made is not None else (6, 3)
    runs = [record(n, outside, inside) for n in (50, MOST, 5 * MOST)]
    slope = (runs[-1].packed - runs[0].packed) / (runs[-1].shards - runs[0].shards)
    fits = round(runs[0].shards + (LIMIT - runs[0].packed) / slope)
    return {
        "compiled_bytes": made["bytes"] if made is not None else None,
        "steps_outside": outside,
        "steps_per_shard": inside,
        "runs": [run.__dict__ for run in runs],
        "packed_bytes_per_shard": round(slope, 1),
        "fits": fits,
        "argument_fits": int(ARGUMENT / (runs[1].argument / MOST)),
        "most": MOST,
    }
