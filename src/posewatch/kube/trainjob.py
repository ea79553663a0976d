"""Training as a Kubeflow Trainer v2 job: what the TrainJob says, and following it to its end.

The runtime ``torch-distributed`` starts ``torchrun`` on every node and tells it through PET_NNODES, PET_NPROC_PER_NODE,
PET_NODE_RANK, PET_MASTER_ADDR and PET_MASTER_PORT who is there; the processes meet in ``stages.train_distributed``.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from posewatch.artifact import Artifact, Job, find
from posewatch.config import TrainConfig, TrainerConfig
from posewatch.digests import canonical, digest
from posewatch.errors import ConfigError, InputError, JobError, PosewatchError
from posewatch.kube.cluster import apply, connect_for, delete, get
from posewatch.kube.logs import LogReader
from posewatch.progress import Progress
from posewatch.store import ObjectStore

API, KIND = "trainer.kubeflow.org/v1alpha1", "TrainJob"
MANAGER = "posewatch.io/train"
"""Who owns our part of ``runtimePatches``."""
STORE = ("POSEWATCH_S3_ENDPOINT", "POSEWATCH_S3_ACCESS_KEY", "POSEWATCH_S3_SECRET_KEY")
UID = 10001
POLL_S = 3.0
GONE_S = 60.0


def train_job(
    store: ObjectStore, job: Job, dataset: Artifact, config: TrainConfig, trainer: TrainerConfig
) -> dict[str, Any]:
    """The TrainJob (trainer.kubeflow.org/v1alpha1) that makes the checkpoint of ``job``, as a plain dict.

    Its name is made of what it does, as ``spec.trainer`` cannot be changed: the same run has the same name, so that
    whoever follows it may be killed and come back, and another one has another. Raises ConfigError without an image or
    with a batch that cannot be shared out.
    """
    image = trainer.image or os.environ.get("POSEWATCH_IMAGE", "")
    if not image:
        raise ConfigError("a training on the cluster needs an image: set trainer.image, or POSEWATCH_IMAGE")
    nodes, each = max(1, trainer.nodes), trainer.gpus or trainer.processes
    if config.batch % (nodes * each):
        raise ConfigError(f"train.batch {config.batch} must be a multiple of the {nodes * each} processes")
    if not store.uri.startswith("s3://"):
        raise InputError(f"pods cannot reach the store {store.uri}: use s3://bucket (--store)")
    resources = {"cpu": trainer.cpu, "memory": trainer.memory}
    resources |= {"nvidia.com/gpu": str(trainer.gpus)} if trainer.gpus else {}
    # Only what the pods need: that they are told of no nodes keeps them from starting jobs of their own.
    told = {"train": dataclasses.asdict(config), "trainer": {"checkpoint_s": trainer.checkpoint_s}}
    env: list[dict[str, Any]] = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": trainer.secret, "key": name}}} for name in STORE
    ]
    env += [{"name": "POSEWATCH_HOME", "value": "/work"}, {"name": "HOME", "value": "/work"}]
    env.append({"name": "OMP_WAIT_POLICY", "value": "PASSIVE"})
    if not trainer.gpus:
        env.append({"name": "OMP_NUM_THREADS", "value": str(max(1, _cores(trainer.cpu) // each))})
    spec: dict[str, Any] = {
        "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime", "name": trainer.runtime},
        "activeDeadlineSeconds": trainer.timeout_s,
        "trainer": {
            "image": image,
            "command": ["torchrun", "-m", "posewatch.cli.main", "train"],
            "args": [dataset.uri, "--store", store.uri, "--config", canonical(told)],
            "env": env,
            "numNodes": nodes,
            "numProcPerNode": each,
            "resourcesPerNode": {"requests": resources, "limits": resources},
        },
        "runtimePatches": [{"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": _pods(trainer)}}}],
    }
    return {
        "apiVersion": API,
        "kind": KIND,
        "metadata": {
            "name": f"posewatch-train-{job.fingerprint}-{digest(spec)[:6]}",
            "namespace": trainer.namespace,
            "labels": {"app.kubernetes.io/name": "posewatch-train", "app.kubernetes.io/part-of": "posewatch"},
            "annotations": {"posewatch/dataset": dataset.uri, "posewatch/checkpoint": f"{store.uri}/{job.prefix}"},
        },
        "spec": spec,
    }


def train_on_cluster(
    store: ObjectStore,
    job: Job,
    dataset: Artifact,
    config: TrainConfig,
    trainer: TrainerConfig,
    *,
    context: str | None = None,
) -> Artifact:
    """Run the TrainJob, follow it with its log, and return the checkpoint that it left in the store.

    The job is deleted in the end, whether it is complete, has failed, or this process is told to stop (Ctrl-C,
    SIGTERM). What it had kept in the store stays, so that the next attempt goes on from there. Raises JobError with
    the job's own message.
    """
    found = find(store, job.prefix)
    if found is not None:
        return found
    body = train_job(store, job, dataset, config, trainer)
    name, namespace = body["metadata"]["name"], trainer.namespace
    with _terminated():
        try:
            _clear(name, namespace, context)
            apply([body], namespace=namespace, context=context)
            with Progress("train", 1, "job") as progress:
                progress.say(f"TrainJob {namespace}/{name}")
                _follow(name, namespace, trainer.timeout_s, progress, context)
                progress.advance(note=name)
        finally:
            _delete(name, namespace, context)
    found = find(store, job.prefix)
    if found is None:
        raise JobError(
            f"TrainJob {namespace}/{name} is complete, but {store.uri}/{job.prefix} is not there: same store?"
        )
    return found


def _follow(name: str, namespace: str, timeout_s: float, progress: Progress, context: str | None) -> None:
    deadline, last = time.monotonic() + timeout_s, ""
    what = f"TrainJob {namespace}/{name} could not be followed"
    with connect_for(context, timeout_s, what, progress) as cluster:
        logs = LogReader(cluster, namespace, f"jobset.sigs.k8s.io/jobset-name={name}", progress)
        while True:
            found = logs.ask(API, KIND, name)
            logs.read()
            conditions = {c["type"]: c for c in ((found or {}).get("status") or {}).get("conditions") or ()}
            held = {kind for kind, c in conditions.items() if c.get("status") == "True"}
            if "Complete" in held:
                return
            if "Failed" in held:
                told = conditions["Failed"]
                why = logs.last_error() or told.get("message") or told.get("reason")
                raise JobError(
                    f"TrainJob {namespace}/{name} failed: {why}"
                    f"{logs.casualties()} (what it had kept is in the store: run it again to go on)"
                )
            if found is None and logs.away == "":
                raise JobError(f"TrainJob {namespace}/{name} was deleted by somebody else: run it again to go on")
            state = logs.away or ("suspended" if "Suspended" in held else f"running{logs.pods_text()}")
            if state != last:
                progress.say(f"TrainJob {namespace}/{name}: {state}")
            last = state
            if time.monotonic() > deadline:
                raise JobError(
                    f"TrainJob {namespace}/{name} did not end within trainer.timeout_s = {timeout_s:g}: {state}"
                )
            time.sleep(POLL_S)


def _clear(name: str, namespace: str, context: str | None) -> None:
    """Take away a job of this name that has ended: its follower was killed before it could."""
    found = get(API, KIND, name, namespace, context=context)
    ended = [
        c for c in ((found or {}).get("status") or {}).get("conditions") or () if c["type"] in ("Failed", "Complete")
    ]
    leaving = found is not None and found["metadata"].get("deletionTimestamp")
    if found is None or not (leaving or any(c.get("status") == "True" for c in ended)):
        return
    delete(API, KIND, name, namespace, context=context)
    deadline = time.monotonic() + GONE_S
    while get(API, KIND, name, namespace, context=context) is not None:
        if time.monotonic() > deadline:
            raise JobError(f"TrainJob {namespace}/{name} of an earlier attempt does not go away: delete it by hand")
        time.sleep(min(1.0, POLL_S))


def _delete(name: str, namespace: str, context: str | None) -> None:
    """Delete the job; where the cluster cannot be asked, say how to do it by hand and go on."""
    try:
        delete(API, KIND, name, namespace, context=context)
    except PosewatchError as error:
        with Progress("train", 0, "job") as progress:
            progress.say(f"{error}; when it is back: kubectl -n {namespace} delete trainjob {name}")


@contextmanager
def _terminated() -> Iterator[None]:
    """Inside, SIGTERM (a deleted pod, an aborted run) is an interrupt, so that what was begun is cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _pods(trainer: TrainerConfig) -> dict[str, Any]:
    """The runtime's pods in ours: restricted, with room to write in three places only."""
    volumes = {"work": {}, "tmp": {}, "shm": {"medium": "Memory", "sizeLimit": trainer.shm}}
    places = {"work": "/work", "tmp": "/tmp", "shm": "/dev/shm"}
    spec: dict[str, Any] = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "fsGroup": UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [{"name": name, "emptyDir": kind} for name, kind in volumes.items()],
        "containers": [
            {
                "name": "node",
                "volumeMounts": [{"name": name, "mountPath": path} for name, path in places.items()],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }
    if trainer.service_account:
        spec["serviceAccountName"] = trainer.service_account
    return {"replicatedJobs": [{"name": "node", "template": {"spec": {"template": {"spec": spec}}}}]}


def _cores(quantity: str) -> int:
    """Whole processors of a Kubernetes quantity ("4", "2500m")."""
    try:
        return int(float(quantity[:-1]) / 1000) if quantity.endswith("m") else int(float(quantity))
    except ValueError:
        raise ConfigError(f"trainer.cpu must be a quantity like 4 or 2500m, not {quantity!r}") from None
