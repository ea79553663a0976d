"""The ServingRuntime of a version: Triton, its image and its processors, in an object that is never changed.

KServe updates every InferenceService of a ServingRuntime that changes (its ``servingRuntimeFunc``): a change of a
shared one would restart all that serves. So ``posewatch deploy`` makes runtimes of its own, named by what is in them,
and writes to no other. ``posewatch-triton`` belongs to the cluster's operators, through the chart or kubectl: where it
exists it says which Triton (mirror, tolerations, ...) the *next* version gets.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from posewatch.config import ServingConfig
from posewatch.deploy.images import TRITON_IMAGE, below
from posewatch.digests import digest
from posewatch.errors import ServingError
from posewatch.kube.cluster import FIELD_MANAGER, Cluster
from posewatch.progress import Progress

API, KIND = "serving.kserve.io/v1alpha1", "ServingRuntime"
RUNTIME = "posewatch-triton"
"""The operators' runtime; those of versions are called ``posewatch-triton-<digest>``."""
CONTAINER = "kserve-container"

HTTP, GRPC, _METRICS = 8080, 9000, 8002
"""Ports of a Triton pod."""
_START_S = 5
"""Seconds between the probes of a start."""
_LOADS_S = 600
"""How long a model may take to load at least."""


def ensure_runtime(
    config: ServingConfig, *, image: str = "", context: str | None = None, progress: Progress | None = None
) -> str:
    """The name of a runtime for ``config`` in its namespace, which is made if it is not there yet.

    It is like the operators' ``posewatch-triton`` if there is one, else like ``serving_runtime``; in both cases with
    the processors of ``serving.instances``, with as long a start as ``serving.ready_timeout_s``, and with ``image`` if
    it is given. The same content has the same name.
    """
    with Cluster(context) as cluster:
        theirs = cluster.get(API, KIND, RUNTIME, config.namespace)
        if theirs is None or not owners(theirs):
            spec = serving_runtime(config, image=image or TRITON_IMAGE)["spec"]
        else:
            spec = _like(theirs, config, image)
            if progress is not None:
                by = " and ".join(owners(theirs))
                progress.say(
                    f"Triton as ServingRuntime {config.namespace}/{RUNTIME} has it (owner: {by}): {_image(spec)}"
                )
        floor = below(_image(spec))
        if floor is not None and progress is not None:
            progress.say(f"{_image(spec)} has known holes: take {floor.version} or newer ({floor.why})")
        name = f"{RUNTIME}-{digest(spec)[:8]}"
        if cluster.get(API, KIND, name, config.namespace) is None:
            meta = {"name": name, "namespace": config.namespace, "labels": part_of(RUNTIME)}
            body = {"apiVersion": API, "kind": KIND, "metadata": meta, "spec": spec}
            cluster.apply(body, config.namespace, FIELD_MANAGER)
    return name


def owners(body: Mapping[str, Any]) -> list[str]:
    """Who else than posewatch has set fields of an object; versions before 0.2 also wrote to ``posewatch-triton``."""
    managers = {row.get("manager", "") for row in body["metadata"].get("managedFields") or ()}
    return sorted(managers - {FIELD_MANAGER, ""})


def _like(theirs: Mapping[str, Any], config: ServingConfig, image: str) -> dict[str, Any]:
    spec = copy.deepcopy(dict(theirs["spec"]))
    container = _container(spec)
    if container is None:
        raise ServingError(
            f"ServingRuntime {config.namespace}/{RUNTIME} has no container {CONTAINER}: let the chart make it anew"
        )
    if image:
        container["image"] = image
    resources = container.setdefault("resources", {})
    for what in ("requests", "limits"):
        resources[what] = {**(resources.get(what) or {}), "cpu": _cpus(config)}
    if probe := container.get("startupProbe"):
        least = _start_failures(config, probe.get("periodSeconds") or 10)
        probe["failureThreshold"] = max(probe.get("failureThreshold") or 3, least)
    return spec


def _container(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    return next((c for c in spec.get("containers") or () if c.get("name") == CONTAINER), None)


def _image(spec: Mapping[str, Any]) -> str:
    return str((_container(spec) or {}).get("image", ""))


def _start_failures(config: ServingConfig, period_s: int) -> int:
    """After how many probes a start has failed: a kubelet that gives up before us has the model load anew, for ever."""
    return math.ceil(max(config.ready_timeout_s, _LOADS_S) / period_s)


def _cpus(config: ServingConfig) -> str:
    return str(max(1, config.instances))


def serving_runtime(config: ServingConfig, *, image: str = TRITON_IMAGE) -> dict[str, Any]:
    """The ServingRuntime (KServe v1alpha1): Triton, one CPU per model instance; each service requests its own GPUs."""
    return {
        "apiVersion": API,
        "kind": KIND,
        "metadata": {"name": RUNTIME, "namespace": config.namespace, "labels": part_of(RUNTIME)},
        "spec": {
            "annotations": {"prometheus.kserve.io/path": "/metrics", "prometheus.kserve.io/port": str(_METRICS)},
            "protocolVersions": ["v2", "grpc-v2"],
            # Without autoSelect the runtime serves only services that name it, so it never competes with others.
            "supportedModelFormats": [{"name": "triton", "version": "2", "autoSelect": False}],
            "containers": [
                {
                    "name": CONTAINER,
                    "image": image,
                    "command": ["tritonserver"],
                    "args": [
                        "--model-repository=/mnt/models",
                        f"--http-port={HTTP}",
                        f"--grpc-port={GRPC}",
                        f"--metrics-port={_METRICS}",
                        "--metrics-config=summary_latencies=true",
                        # posewatch writes config.pbtxt out in full; a guess of Triton must not hide a mistake.
                        "--disable-auto-complete-config",
                        "--exit-timeout-secs=25",
                        # A Service gives a connection to a pod and leaves it there: without an end, clients never ask
                        # a replica that started after them. gRPC clients connect anew without losing a call.
                        "--grpc-max-connection-age=60000",
                    ],
                    # KServe routes its Service to the first port; the second is gRPC without TLS.
                    "ports": [
                        {"containerPort": HTTP, "name": "http1", "protocol": "TCP"},
                        {"containerPort": GRPC, "name": "h2c", "protocol": "TCP"},
                    ],
                    # The nodes learn within seconds that a pod ends; until then they send it new connections, which a
                    # Triton that ends refuses. With the 25 s above it is below the 30 s that a pod is given.
                    "lifecycle": {"preStop": {"sleep": {"seconds": 4}}},
                    "startupProbe": _probe("ready", period=_START_S, failures=_start_failures(config, _START_S)),
                    "readinessProbe": _probe("ready", period=5, failures=3),
                    "livenessProbe": _probe("live", period=10, failures=6),
                    "resources": {
                        "requests": {"cpu": _cpus(config), "memory": "2Gi"},
                        "limits": {"cpu": _cpus(config), "memory": "4Gi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "runAsNonRoot": True,
                        "runAsUser": 1000,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                }
            ],
        },
    }


def part_of(name: str) -> dict[str, str]:
    """The labels of an object of posewatch's."""
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "posewatch"}


def _probe(what: str, *, period: int, failures: int) -> dict[str, Any]:
    # Over HTTP: KServe's default probe only opens a TCP port.
    return {
        "httpGet": {"path": f"/v2/health/{what}", "port": HTTP, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
