"""The size of a run of ``prepare``: shards, pods, and the record that the workflow engine stores of them.

No Kubeflow server is needed: the pipeline is compiled, and a record is built with the fields that Argo stores per node
and values from the compiled pipeline. Argo packs the nodes (gzip, base64) when a workflow exceeds 1 MiB, and fails the
run when that does not fit either (argo-workflows, workflow/packer); etcd's own limit on a request is 1.5 MiB.
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
from posewatch.stages.shards import MAX_SHARDS

RECORD_LIMIT = 1024 * 1024
"""Bytes of a workflow's record."""
ARGUMENT_LIMIT = 128 * 1024
"""Bytes of one process argument on Linux: the list of all shards is passed in one."""


@dataclass(frozen=True)
class Fanout:
    """One run of ``shards`` shards: its ``pods`` and the ``nodes`` of its record.

    ``plain`` and ``packed`` are the record's size in bytes; ``argument`` is that of the list of shards, which is passed
    to the last steps.
    """

    shards: int
    pods: int
    nodes: int
    plain: int
    packed: int
    argument: int


def compiled(folder: Path) -> dict[str, Any] | None:
    """The specification of ``prepare``, compiled as a user compiles it; None outside a checkout.

    Raises InputError when it cannot be compiled.
    """
    if not Path("pipelines/__main__.py").is_file():
        return None
    images = {"POSEWATCH_IMAGES": "registry.example/posewatch", "POSEWATCH_TAG": "0123456789ab", "POSEWATCH_IMAGE": ""}
    command = [sys.executable, "-m", "pipelines", "compile", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **images})
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"the pipelines cannot be compiled: {reason}")
    spec: dict[str, Any] = next(iter(yaml.safe_load_all((folder / "prepare.yaml").read_text(encoding="utf-8"))))
    return spec


def steps(spec: dict[str, Any]) -> tuple[int, int]:
    """Number of steps outside the loop over shards, and inside."""
    inside = outside = 0
    components = spec["components"]
    loops = {task["componentRef"]["name"] for task in _tasks(spec) if "parameterIterator" in task}
    for name, component in {**components, "": spec["root"]}.items():
        leaves = [t for t in component.get("dag", {}).get("tasks", {}).values()
                  if "executorLabel" in components[t["componentRef"]["name"]]]  # fmt: skip
        if name in loops:
            inside += len(leaves)
        else:
            outside += len(leaves)
    return outside, inside


def _tasks(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [t for c in [spec["root"], *spec["components"].values()] for t in c.get("dag", {}).get("tasks", {}).values()]


def record(shards: int, outside: int, inside: int) -> Fanout:
    """The size of a run. Each step has a driver pod, a group and its own pod; each shard has a group and its driver."""
    config = load().to_json()
    nodes: dict[str, Any] = {}

    def add(kind: str, name: str, inputs: dict[str, str]) -> None:
        key = hashlib.sha1(f"{shards}/{len(nodes)}".encode()).hexdigest()
        node = f"posewatch-prepare-x7k2p-{int(key[:8], 16)}"
        nodes[node] = {
            "id": node, "name": f"posewatch-prepare-x7k2p.{name}.{key[:10]}", "displayName": name, "type": kind,
            "templateName": f"system-{name}", "templateScope": "local/posewatch-prepare-x7k2p", "phase": "Succeeded",
            "boundaryID": f"posewatch-prepare-x7k2p-{int(key[8:16], 16)}", "progress": "1/1",
            "startedAt": f"2026-01-01T0{len(nodes) % 10}:{len(nodes) % 60:02}:00Z", "hostNodeName": "gpu-node-1",
            "finishedAt": f"2026-01-01T0{len(nodes) % 10}:{(len(nodes) + 7) % 60:02}:00Z",
            "resourcesDuration": {"cpu": int(key[:4], 16), "memory": int(key[4:8], 16)},
            "inputs": {"parameters": [{"name": k, "value": v} for k, v in inputs.items()]},
            "outputs": {"parameters": [{"name": "execution-id", "value": str(int(key[:6], 16))}], "exitCode": "0"},
            "children": [f"posewatch-prepare-x7k2p-{int(key[16:24], 16)}"],
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
    """The compiled pipeline and runs of several sizes.

    ``fits`` and ``argument_fits`` are the largest numbers of shards within the limits, ``most`` is what a run may have.
    """
    with tempfile.TemporaryDirectory(prefix="posewatch-scale-") as temp:
        spec = compiled(Path(temp))
    outside, inside = steps(spec) if spec is not None else (6, 3)
    runs = [record(n, outside, inside) for n in (50, MAX_SHARDS, 5 * MAX_SHARDS)]
    slope = (runs[-1].packed - runs[0].packed) / (runs[-1].shards - runs[0].shards)
    fits = round(runs[0].shards + (RECORD_LIMIT - runs[0].packed) / slope)
    return {
        "steps_outside": outside,
        "steps_per_shard": inside,
        "runs": [run.__dict__ for run in runs],
        "packed_bytes_per_shard": round(slope, 1),
        "fits": fits,
        "argument_fits": int(ARGUMENT_LIMIT / (runs[1].argument / MAX_SHARDS)),
        "most": MAX_SHARDS,
    }
