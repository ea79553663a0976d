"""The InferenceService of a published model, as a plain dict; its ServingRuntime is in ``runtime.py``.

The kserve SDK is not used: it cannot live in one process with ``tritonclient.grpc``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from posewatch.deploy.runtime import RUNTIME, part_of
from posewatch.errors import ConfigError

SERVICE_ACCOUNT = "posewatch-serving"
LINEAGE = "posewatch/lineage-digest"
"""An annotation, not a label: a sha256 has 64 digits and a label value at most 63."""

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
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


def inference_service(
    name: str,
    namespace: str,
    storage_uri: str,
    *,
    version: str,
    runtime: str = RUNTIME,
    service_account: str = SERVICE_ACCOUNT,
    gpus: int = 0,
    min_replicas: int = 1,
    max_replicas: int = 1,
    lineage_digest: str = "",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The InferenceService (KServe v1beta1) for one immutable version of a model repository.

    ``storage_uri`` is the root of that version (``s3://bucket/models/name/3/``); ``gpus`` is a whole number of
    ``nvidia.com/gpu`` per replica. Raises ConfigError when a name, version, URI or count cannot be deployed.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"serving.name {name!r} cannot name an InferenceService: at most 50 of a-z, 0-9 and -, a letter first"
        )
    if not _LABEL.fullmatch(version):
        raise ConfigError(f"model version {version!r} cannot be a label value: at most 63 of A-Z, a-z, 0-9, -, _ and .")
    if not storage_uri.startswith(_REMOTE):
        raise ConfigError(
            f"KServe cannot read a model repository at {storage_uri!r}: publish it to a store that the cluster reaches"
            f" ({', '.join(_REMOTE)})"
        )
    if gpus < 0 or not 0 < min_replicas <= max_replicas:
        raise ConfigError(
            f"replicas must be 1 <= min <= max and gpus >= 0, not {min_replicas}, {max_replicas} and {gpus}"
        )
    model: dict[str, Any] = {
        "modelFormat": {"name": "triton", "version": "2"},
        "protocolVersion": "v2",
        "runtime": runtime,
        # Without the slash the storage initializer also pulls .../10/ for .../1.
        "storageUri": storage_uri.rstrip("/") + "/",
    }
    if gpus:
        model["resources"] = {"requests": {"nvidia.com/gpu": str(gpus)}, "limits": {"nvidia.com/gpu": str(gpus)}}
    lineage = {LINEAGE: lineage_digest} if lineage_digest else {}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {**part_of(name), "app.kubernetes.io/version": version, **(labels or {})},
            # KServe compares this string letter by letter, and its default is still Knative.
            "annotations": {"serving.kserve.io/deploymentMode": "Standard", **lineage, **(annotations or {})},
        },
        "spec": {
            "predictor": {
                "serviceAccountName": service_account,
                "automountServiceAccountToken": False,
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                "minReplicas": min_replicas,
                "maxReplicas": max_replicas,
                "model": model,
            }
        },
    }
