"""Training as a Kubeflow Trainer v2 job: the TrainJob's content, and following it to its end.

The runtime ``torch-distributed`` starts ``torchrun`` on every node, with the size of the group and its address in
PET_NNODES, PET_NPROC_PER_NODE, PET_NODE_RANK, PET_MASTER_ADDR and PET_MASTER_PORT (``stages.train_distributed``).
"""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from posewatch.artifact import Artifact, Job, find
from posewatch.config import TrainConfig, TrainerConfig
from posewatch.digests import canonical, digest
from posewatch.errors import ConfigError, InputError, JobError, PosewatchError
from posewatch.kube.cluster import Cluster
from posewatch.kube.logs import LogReader
from posewatch.kube.polling import poll
from posewatch.progress import Progress
from posewatch.store import ObjectStore

API, KIND = "trainer.kubeflow.org/v1alpha1", "TrainJob"
MANAGER = "posewatch.io/train"
"""The owner of our part of ``runtimePatches``."""
STORE = ("POSEWATCH_S3_ENDPOINT", "POSEWATCH_S3_ACCESS_KEY", "POSEWATCH_S3_SECRET_KEY")
REGION = "POSEWATCH_S3_REGION"
UID = 10001
POLL_S = 3.0
DELETE_S = 60.0
"""How long the deletion of an earlier job may take."""
_CA = "/etc/posewatch-ca"
_GPU_TAINT = "nvidia.com/gpu"
"""Nodes with GPUs often have it, so that nobody else takes them; the steps of pipelines tolerate it as well."""


def train_job(
    store: ObjectStore, job: Job, dataset: Artifact, config: TrainConfig, trainer: TrainerConfig
) -> dict[str, Any]:
    """The TrainJob (trainer.kubeflow.org/v1alpha1) that makes the checkpoint of ``job``, as a plain dict.

    ``spec.trainer`` cannot be changed, so the name contains a digest of it: the same run has the same name and is found
    again by a follower that was killed, another run has another name. Raises ConfigError without an image, or for a
    batch that is not a multiple of the number of processes.
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
    # Only what the pods need: without trainer.nodes they train in their own processes and start no jobs.
    options = {"train": dataclasses.asdict(config), "trainer": {"checkpoint_s": trainer.checkpoint_s}}
    env: list[dict[str, Any]] = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": trainer.secret, "key": name}}} for name in STORE
    ]
    env.append(
        {"name": REGION, "valueFrom": {"secretKeyRef": {"name": trainer.secret, "key": REGION, "optional": True}}}
    )
    env += [{"name": "POSEWATCH_HOME", "value": "/work"}, {"name": "HOME", "value": "/work"}]
    env.append({"name": "OMP_WAIT_POLICY", "value": "PASSIVE"})
    if trainer.ca_bundle:  # here, for Trainer refuses variables of this container in a patch
        env.append({"name": "SSL_CERT_FILE", "value": f"{_CA}/ca.crt"})
    if not trainer.gpus:
        env.append({"name": "OMP_NUM_THREADS", "value": str(max(1, _cores(trainer.cpu) // each))})
    spec: dict[str, Any] = {
        "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime", "name": trainer.runtime},
        "activeDeadlineSeconds": trainer.timeout_s,
        "trainer": {
            "image": image,
            "command": ["torchrun", "-m", "posewatch.cli.main", "train"],
            "args": [dataset.uri, "--store", store.uri, "--config", canonical(options)],
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

    The job is deleted in the end, whether it is complete, has failed, or this process gets a signal to stop (Ctrl-C,
    SIGTERM). The training state that it saved in the store stays, and the next attempt goes on from there. Raises
    JobError with the job's own message.
    """
    checkpoint = find(store, job.prefix)
    if checkpoint is not None:
        return checkpoint
    body = train_job(store, job, dataset, config, trainer)
    name, namespace = body["metadata"]["name"], trainer.namespace
    with _sigterm_interrupts():
        try:
            with Cluster(context) as cluster:
                _clear(cluster, name, namespace)
                cluster.apply(body, namespace)
            with Progress("train", 1, "job") as progress:
                progress.say(f"TrainJob {namespace}/{name}")
                _follow(name, namespace, trainer.timeout_s, progress, context)
                progress.advance(note=name)
        finally:
            _delete(name, namespace, context)
    checkpoint = find(store, job.prefix)
    if checkpoint is None:
        raise JobError(
            f"TrainJob {namespace}/{name} is complete, but {store.uri}/{job.prefix} is not there: same store?"
        )
    return checkpoint


def _follow(name: str, namespace: str, timeout_s: float, progress: Progress, context: str | None) -> None:
    what = f"TrainJob {namespace}/{name}"
    with Cluster(context) as cluster:
        logs = LogReader(cluster, namespace, f"jobset.sigs.k8s.io/jobset-name={name}")

        def check() -> tuple[bool | None, str]:
            job = cluster.get(API, KIND, name, namespace)
            if job is None:
                raise JobError(f"{what} was deleted by somebody else: run it again to go on")
            logs.update()
            conditions = _conditions(job)
            if "Complete" in conditions:
                return True, "complete"
            if "Failed" in conditions:
                failed = conditions["Failed"]
                why = logs.last_error() or failed.get("message") or failed.get("reason")
                raise JobError(
                    f"{what} failed: {why}{logs.failures()} (its training state is in the store: run it again to go on)"
                )
            return None, "suspended" if "Suspended" in conditions else f"running{logs.phases()}"

        def timed_out(state: str) -> Exception:
            return JobError(f"{what} did not end within trainer.timeout_s = {timeout_s:g}: {state}")

        poll(check, timeout_s, POLL_S, timed_out, what=what, progress=progress)


def _conditions(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The conditions that are true, by type."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return {c["type"]: c for c in conditions if c.get("status") == "True"}


def _clear(cluster: Cluster, name: str, namespace: str) -> None:
    """Delete a job of this name that has ended: its follower was killed before it could."""
    job = cluster.get(API, KIND, name, namespace)
    if job is None:
        return
    if not (job["metadata"].get("deletionTimestamp") or {"Failed", "Complete"} & _conditions(job).keys()):
        return
    cluster.delete(API, KIND, name, namespace)

    def check() -> tuple[bool | None, str]:
        return True if cluster.get(API, KIND, name, namespace) is None else None, ""

    def timed_out(_: str) -> Exception:
        return JobError(f"TrainJob {namespace}/{name} of an earlier attempt is still being deleted: delete it by hand")

    poll(check, DELETE_S, min(1.0, POLL_S), timed_out)


def _delete(name: str, namespace: str, context: str | None) -> None:
    """Delete the job; if the cluster is unavailable, print how to do it by hand and go on."""
    try:
        with Cluster(context) as cluster:
            cluster.delete(API, KIND, name, namespace)
    except PosewatchError as error:
        with Progress("train", 0, "job") as progress:
            progress.say(f"{error}; when it is back: kubectl -n {namespace} delete trainjob {name}")


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM (a deleted pod, an aborted run) becomes an interrupt, so that the job is deleted."""
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
    """Our changes to the runtime's pods: restricted, with three writable folders only."""
    empty = {"work": {}, "tmp": {}, "shm": {"medium": "Memory", "sizeLimit": trainer.shm}}
    volumes: list[dict[str, Any]] = [{"name": name, "emptyDir": kind} for name, kind in empty.items()]
    places = {"work": "/work", "tmp": "/tmp", "shm": "/dev/shm"}
    mounts: list[dict[str, Any]] = [{"name": name, "mountPath": path} for name, path in places.items()]
    if trainer.ca_bundle:
        name, _, key = trainer.ca_bundle.partition("/")
        volumes.append({"name": "ca", "configMap": {"name": name, "items": [{"key": key, "path": "ca.crt"}]}})
        mounts.append({"name": "ca", "mountPath": _CA, "readOnly": True})
    spec: dict[str, Any] = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "fsGroup": UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": volumes,
        "containers": [
            {
                "name": "node",
                "volumeMounts": mounts,
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
    if trainer.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in trainer.pull_secrets]
    if trainer.node_selector:
        spec["nodeSelector"] = dict(label.split("=", 1) for label in trainer.node_selector)
    taints = [_GPU_TAINT] if trainer.gpus else []
    if taints := [*taints, *trainer.tolerations]:
        spec["tolerations"] = [_toleration(taint) for taint in taints]
    return {"replicatedJobs": [{"name": "node", "template": {"spec": {"template": {"spec": spec}}}}]}


def _toleration(taint: str) -> dict[str, str]:
    """Of a taint as ``key[=value][:effect]``."""
    rest, _, effect = taint.partition(":")
    key, equal, value = rest.partition("=")
    about = {"key": key, "operator": "Equal", "value": value} if equal else {"key": key, "operator": "Exists"}
    return about | ({"effect": effect} if effect else {})


def _cores(quantity: str) -> int:
    """Whole processors of a Kubernetes quantity ("4", "2500m")."""
    try:
        return int(float(quantity[:-1]) / 1000) if quantity.endswith("m") else int(float(quantity))
    except ValueError:
        raise ConfigError(f"trainer.cpu must be a quantity like 4 or 2500m, not {quantity!r}") from None
