"""The InferenceService of a published model, as a plain dict; its ServingRuntime is in ``runtime.py``.

The kserve SDK is not used: it cannot live in one process with ``tritonclient.grpc``.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from posewatch.config import ServingConfig
from posewatch.deploy.runtime import RUNTIME, part_of
from posewatch.deploy.target import Release
from posewatch.digests import canonical
from posewatch.errors import ConfigError

SERVICE_ACCOUNT = "posewatch-serving"
AUTOSCALER = "serving.kserve.io/autoscalerClass"
LINEAGE = "posewatch/lineage-digest"
"""An annotation, not a label: a sha256 has 64 digits and a label value at most 63."""

SERVICE = "posewatch/service"
"""The label that names the service of an object; KServe gives it to the pods as well."""
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_SELF = "THIS-VERSION"
_REMOTE = ("s3://", "gs://", "pvc://")


@dataclass(frozen=True)
class Endpoint:
    """A served model: ``model`` is Triton's name for it (the repository folder), ``name`` the InferenceService."""

    name: str
    namespace: str
    model: str
    version: str
    url: str

    @property
    def uri(self) -> str:
        """``http://host:port/model``, the form that ``open_predictor`` takes."""
        parts = urlsplit(self.url)
        port = parts.port or {"https": 443}.get(parts.scheme, 80)
        return f"{parts.scheme}://{parts.hostname}:{port}/{self.model}"


def inference_service(config: ServingConfig, release: Release, runtime: str = RUNTIME) -> dict[str, Any]:
    """The InferenceService (KServe v1beta1) of one release. Each has its own; nothing in it but replicas ever changes.

    Its name ends in a digest of the release and of all that its pods depend on, so that another release, other GPUs or
    another ``runtime`` (the name of a ServingRuntime) are another object beside it. Raises ConfigError when a name,
    version or URI cannot be deployed.
    """
    if not _NAME.fullmatch(config.name):
        raise ConfigError(
            f"serving.name {config.name!r} cannot name a service: at most 40 of a-z, 0-9 and -, a letter first"
        )
    if not _LABEL.fullmatch(release.version):
        raise ConfigError(
            f"model version {release.version!r} cannot be a label value: at most 63 of A-Z, a-z, 0-9, -, _ and ."
        )
    if not release.uri.startswith(_REMOTE):
        raise ConfigError(
            f"KServe cannot read a model repository at {release.uri!r}: publish it to a store that the cluster reaches"
            f" ({', '.join(_REMOTE)})"
        )
    predictor: dict[str, Any] = {
        "serviceAccountName": SERVICE_ACCOUNT,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "minReplicas": config.min_replicas,
        "maxReplicas": config.max_replicas,
        "model": {
            "modelFormat": {"name": "triton", "version": "2"},
            "protocolVersion": "v2",
            "runtime": runtime,
            # With the slash: else the storage initializer also pulls .../10/ for .../1.
            "storageUri": release.root,
        },
    }
    if config.gpus:
        gpus = {"nvidia.com/gpu": str(config.gpus)}
        predictor["model"]["resources"] = {"requests": gpus, "limits": dict(gpus)}
    if config.autoscaler == "keda":
        predictor["autoScaling"] = {"metrics": _queue_metrics(config)}
    return versioned(config, release, predictor, config.autoscaler)


def versioned(
    config: ServingConfig, release: Release, predictor: dict[str, Any], autoscaler: str, named: str = _SELF
) -> dict[str, Any]:
    """The InferenceService of ``release`` with this predictor, under the name that its content has.

    ``named`` is the name in the predictor's own scaling metrics that this name replaces.
    """
    predictor = copy.deepcopy(predictor)
    predictor["model"]["storageUri"] = release.root
    fixed = {k: v for k, v in predictor.items() if k not in ("minReplicas", "maxReplicas", "autoScaling")}
    digest = hashlib.sha256(canonical([release.version, release.digest, autoscaler, fixed]).encode()).hexdigest()
    name = f"{config.name}-v{digest[:8]}"
    if "autoScaling" in predictor:
        predictor["autoScaling"] = json.loads(json.dumps(predictor["autoScaling"]).replace(named, name))
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": config.namespace,
            # KServe copies labels and annotations to the pods: a change would restart them.
            "labels": {
                **part_of(config.name),
                SERVICE: config.name,
                "app.kubernetes.io/version": release.version,
            },
            "annotations": {
                # KServe compares this string letter by letter, and its default is still Knative.
                "serving.kserve.io/deploymentMode": "Standard",
                LINEAGE: release.digest,
                **({AUTOSCALER: autoscaler} if autoscaler else {}),
            },
        },
        "spec": {"predictor": predictor},
    }


def _queue_metrics(config: ServingConfig) -> list[dict[str, Any]]:
    """KEDA's triggers: requests that wait at Triton, for each replica.

    KServe demands ``value`` and hands on no other (to 0.20: kserve, issue 6169), and KEDA takes it for an average. A
    KServe that hands on the type as well must find the same there: as ``Value`` it would be doubled and doubled again,
    as the sum of a queue does not fall with the replicas that start.
    """
    series = f'nv_inference_pending_request_count{{namespace="{config.namespace}",pod=~"{_SELF}-predictor-.*"}}'
    metric = {"backend": "prometheus", "serverAddress": config.prometheus, "query": f"sum(max_over_time({series}[1m]))"}
    wanted = str(config.pending_requests)
    target = {"type": "AverageValue", "averageValue": wanted, "value": wanted}
    return [{"type": "External", "external": {"metric": metric, "target": target}}]
