"""The size of a run of ``prepare``: shards, pods, and the record that the workflow engine stores of them.

No Kubeflow server is needed: the pipeline is compiled, and the nodes of a run are built from it as Kubeflow Pipelines
2.17 (backend/src/v2/compiler/argocompiler, backend/src/v2/driver) and Argo Workflows (workflow/controller/operator.go)
write them, with the tries of every template that 2.17's manifests ask for (workflow-controller-configmap). Argo packs
the nodes (gzip, base64) when a workflow exceeds 1 MiB, and fails the run when that does not fit either
(workflow/packer); what it runs stands beside them, unpacked. etcd's own limit on a request is 1.5 MiB.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
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


def compiled(folder: Path, name: str = "prepare") -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The specification of a pipeline and what Kubernetes is told, compiled as a user does; None outside a checkout.

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
    spec, platform = yaml.safe_load_all((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


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


class _Run:
    """The nodes of a run of ``shards`` shards, each of whose steps was tried ``tries`` times."""

    WORKFLOW = "posewatch-prepare-x7k2p"
    RUN = "7d1f0a2e-1111-4222-8333-944445555666"

    def __init__(self, spec: dict[str, Any], kubernetes: dict[str, Any], shards: int, tries: int) -> None:
        self.components, self.kubernetes, self.tries = spec["components"], kubernetes, tries
        self.executors = {n: e["container"] for n, e in spec["deploymentSpec"]["executors"].items()}
        self.config, self.random, self.executions = load().to_json(), random.Random(1), 100
        self.parts = [self._uri() for _ in range(shards)]
        self.nodes: dict[str, Any] = {}
        self._dag(f"{self.WORKFLOW}.root", spec["root"])
        told = [*self.components.values(), *self.executors.values(), *kubernetes.values(), *_tasks(spec)]
        self.beside = sum(len(json.dumps(_text(part))) for part in told)
        """What the record holds unpacked: the specification as arguments (the templates' own text is left out)."""

    def _dag(self, base: str, component: dict[str, Any]) -> None:
        for name, task in component["dag"]["tasks"].items():
            inner = self.components[task["componentRef"]["name"]]
            if "executorLabel" in inner:
                self._step(base, name, task, inner)
            elif "parameterIterator" in task:
                self._driver(f"{base}.{name}", "iteration", task, inner, -1)
                for index in range(len(self.parts)):
                    item = f"{base}.{name}.iteration-iterations({index}:{index})"
                    self._tried(item, "DAG", "comp-for-loop-1-for-loop-1", {"iteration-index": str(index)})
                    self._group(item, "iteration-item", task, inner, index)
            else:
                self._group(base, name, task, inner, -1)

    def _group(self, base: str, name: str, task: dict[str, Any], component: dict[str, Any], index: int) -> None:
        self._driver(base, name, task, component, index)
        self._tried(f"{base}.{name}", "DAG", task["componentRef"]["name"], {"parent-dag-id": str(self.executions)})
        self._dag(f"{base}.{name}", component)

    def _driver(self, base: str, name: str, task: dict[str, Any], component: dict[str, Any], index: int) -> None:
        given = {"component": _text(component), "task": _text(task), "task-name": name, "iteration-index": str(index)}
        made = {"execution-id": str(self.executions), "iteration-count": "0", "condition": "true"}
        self._tried(f"{base}.{name}-driver", "Pod", "system-dag-driver", given, made)

    def _step(self, base: str, name: str, task: dict[str, Any], component: dict[str, Any]) -> None:
        """A driver's pod, whose output is the whole pod of the step; a group, its retries, and a pod for each try."""
        label = component["executorLabel"]
        told = self.kubernetes.get(label, {})
        pod = self._pod(name, component, self.executors[label], told)
        given = {
            "component": _text(component), "task": _text(task), "container": _text(self.executors[label]),
            "task-name": name, "parent-dag-id": str(self.executions), "kubernetes-config": _text(told),
        }  # fmt: skip
        self._tried(f"{base}.{name}-driver", "Pod", "system-container-driver", given, {"pod-spec-patch": pod})
        given = {
            "pod-spec-patch": pod, "retry-max-count": "3", "retry-backoff-duration": "30", "retry-backoff-factor": "2",
            "retry-backoff-max-duration": "520000",
        }  # fmt: skip
        around = {**given, "cached-decision": "false"}
        self._tried(f"{base}.{name}", "DAG", "retry-system-container-executor", around)
        self._tried(f"{base}.{name}.executor", "Pod", "retry-system-container-impl", given, {}, self.tries)

    def _pod(self, name: str, component: dict[str, Any], container: dict[str, Any], told: dict[str, Any]) -> str:
        outputs = component.get("outputDefinitions", {})
        folder = f"minio://mlpipeline/v2/artifacts/posewatch-prepare/{self.RUN}/{name}/{self.random.getrandbits(128):x}"
        values: dict[str, Any] = {}
        for key, about in component["inputDefinitions"]["parameters"].items():
            given = self.parts if about["parameterType"] == "LIST" else self._uri()
            values[key] = {"config": self.config, "store": "s3://posewatch"}.get(key, given)
        executor = {
            "inputs": {"parameterValues": values},
            "outputs": {
                "artifacts": {
                    key: {"artifacts": [{"name": key, "type": {"schemaTitle": "system.Dataset"},
                                         "uri": f"{folder}/{key}", "metadata": {"display_name": key}}]}
                    for key in outputs.get("artifacts", {})
                },
                "parameters": {k: {"outputFile": f"/tmp/kfp/outputs/{k}"} for k in outputs.get("parameters", {})},
            },
        }  # fmt: skip
        command = [
            "/kfp-launcher/launch", "--pipeline_name", "posewatch-prepare", "--run_id", self.RUN, "--execution_id",
            str(self.executions), "--executor_input", _text(executor), "--component_spec", _text(component),
            "--pod_name", "$(KFP_POD_NAME)", "--pod_uid", "$(KFP_POD_UID)", "--ml_pipeline_server_address",
            "ml-pipeline.kubeflow", "--mlmd_server_address", "metadata-grpc-service.kubeflow.svc.cluster.local", "--",
        ]  # fmt: skip
        env = [{"name": k["envVar"], "valueFrom": {"secretKeyRef": {"name": "posewatch", "key": k["secretKey"]}}}
               for secret in told.get("secretAsEnv", []) for k in secret["keyToEnv"]]  # fmt: skip
        main = {"name": "main", "image": container["image"], "command": command, "env": env,
                "args": container["command"] + container["args"], "resources": container["resources"]}  # fmt: skip
        return _text({"containers": [main], "nodeSelector": told.get("nodeSelector"), "tolerations": []})

    def _tried(
        self,
        name: str,
        kind: str,
        template: str,
        given: dict[str, str],
        made: dict[str, str] | None = None,
        tries: int = 1,
    ) -> None:
        """A node of tries, with what the last one made, and a node for each."""
        self._add(name, "Retry", template, given, made)
        for i in range(tries):
            self._add(f"{name}({i})", kind, template, given, made)

    def _add(
        self, name: str, kind: str, template: str, given: dict[str, str], made: dict[str, str] | None = None
    ) -> None:
        self.executions += 1
        key = f"{self.WORKFLOW}-{zlib.crc32(name.encode())}"
        at, ended = (datetime(2026, 1, 1) + timedelta(seconds=7 * self.executions + s) for s in (0, 9))
        node: dict[str, Any] = {
            "id": key, "name": name, "displayName": name.rpartition(".")[2], "type": kind, "templateName": template,
            "templateScope": f"local/{self.WORKFLOW}", "phase": "Succeeded", "progress": "1/1",
            "boundaryID": f"{self.WORKFLOW}-{zlib.crc32(name.rpartition('.')[0].encode())}",
            "startedAt": f"{at:%Y-%m-%dT%H:%M:%SZ}", "finishedAt": f"{ended:%Y-%m-%dT%H:%M:%SZ}",
            "resourcesDuration": {"cpu": self.random.randrange(9999), "memory": self.random.randrange(99999)},
            "inputs": {"parameters": [{"name": k, "value": v} for k, v in given.items()]},
            "children": [f"{self.WORKFLOW}-{zlib.crc32(name[::-1].encode())}"],
        }  # fmt: skip
        if kind == "Pod":
            node["hostNodeName"] = "gpu-node-1"
        if made is not None:
            log = (
                f"private-artifacts/kubeflow/{self.WORKFLOW}/2026/01/01/{self.WORKFLOW}-{template}-{key[24:]}/main.log"
            )
            node["outputs"] = {
                "exitCode": "0", "artifacts": [{"name": "main-logs", "s3": {"key": log}}],
                "parameters": [{"name": k, "value": v} for k, v in made.items()],
            }  # fmt: skip
        self.nodes[key] = node

    def _uri(self) -> str:
        return f"s3://posewatch/sets/ingest/{self.random.getrandbits(48):012x}"


def _text(part: Any) -> str:
    return json.dumps(part, separators=(",", ":"), sort_keys=True)


def record(spec: dict[str, Any], kubernetes: dict[str, Any], shards: int, tries: int = 1) -> Fanout:
    """The size of a run of a compiled pipeline; ``packed`` holds what stands beside the nodes, too."""
    run = _Run(spec, kubernetes, shards, tries)
    plain = _text(run.nodes).encode()  # in the order of their ids, which is none, as Argo writes them
    packed = len(base64.b64encode(gzip.compress(plain, 6, mtime=0))) + run.beside
    pods = sum(node["type"] == "Pod" for node in run.nodes.values())
    return Fanout(shards, pods, len(run.nodes), len(plain), packed, len(json.dumps(run.parts)))


def measure() -> dict[str, Any] | None:
    """The compiled pipeline and runs of several sizes; None outside a checkout.

    ``fits`` and ``argument_fits`` are the largest numbers of shards within the limits, ``most`` is what a run may have.
    """
    with tempfile.TemporaryDirectory(prefix="posewatch-scale-") as temp:
        found = compiled(Path(temp))
    if found is None:
        return None
    outside, inside = steps(found[0])
    runs = [record(*found, n) for n in (MAX_SHARDS // 2, MAX_SHARDS, 5 * MAX_SHARDS)]
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
