"""The InferenceService of posewatch while versions change: the stable version, and a canary beside it."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from posewatch.config import ServingConfig
from posewatch.deploy.manifests import LINEAGE, SERVICE_ACCOUNT, inference_service
from posewatch.deploy.readiness import API, KIND
from posewatch.deploy.runtime import RUNTIME
from posewatch.deploy.target import Release
from posewatch.errors import ServingError
from posewatch.kube.cluster import get

CANARY_VERSION, CANARY_LINEAGE = "posewatch/canary-version", "posewatch/canary-lineage-digest"
AUTOSCALER = "serving.kserve.io/autoscalerClass"
_GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class State:
    """What the cluster reports as deployed: the stable release, and the canary with its traffic in percent."""

    stable: Release | None = None
    canary: Release | None = None
    traffic: int = 0
    address: str = ""
    gpus: int = 0
    min_replicas: int = 1
    max_replicas: int = 1
    service_account: str = SERVICE_ACCOUNT
    runtime: str = RUNTIME
    autoscaler: str = ""


def look(config: ServingConfig, context: str | None = None) -> State:
    """The state of ``config.name`` on the cluster. Raises ServingError for a service that posewatch did not create."""
    service = get(API, KIND, config.name, config.namespace, context=context)
    return State() if service is None else state_of(service)


def state_of(service: Mapping[str, Any]) -> State:
    """The state that an InferenceService is in; see ``look``."""
    meta, predictor = service["metadata"], service["spec"]["predictor"]
    annotations, model = meta.get("annotations") or {}, predictor.get("model") or {}
    version = (meta.get("labels") or {}).get("app.kubernetes.io/version", "")
    if not version or not model.get("storageUri"):
        raise ServingError(
            f"InferenceService {meta.get('namespace')}/{meta['name']} was not created by posewatch: choose another"
            " serving.name, or delete it first"
        )
    canary, traffic = None, 0
    for row in service["spec"].get("canary") or ():
        canary_model = row["predictor"].get("model") or {}
        if row["predictor"].get("name") == canary_name(annotations.get(CANARY_VERSION, "")):
            canary = Release(
                annotations[CANARY_VERSION], canary_model.get("storageUri", ""), annotations.get(CANARY_LINEAGE, "")
            )
            traffic = int(row["trafficPercent"])
    return State(
        Release(version, model["storageUri"], annotations.get(LINEAGE, "")),
        canary,
        traffic,
        str(((service.get("status") or {}).get("address") or {}).get("url") or ""),
        int(((model.get("resources") or {}).get("limits") or {}).get(_GPU, 0)),
        int(predictor.get("minReplicas") or 1),
        int(predictor.get("maxReplicas") or 1),
        str(predictor.get("serviceAccountName") or SERVICE_ACCOUNT),
        str(model.get("runtime") or RUNTIME),
        str(annotations.get(AUTOSCALER, "")),
    )


def same(a: Release | None, b: Release | None) -> bool:
    """Whether both are the same bytes under the same name."""
    return a is not None and b is not None and (a.version, a.root, a.digest) == (b.version, b.root, b.digest)


def body(config: ServingConfig, state: State) -> dict[str, Any]:
    """The InferenceService that makes ``state`` true, as a plain dict for a server-side apply.

    A canary keeps one pod of its own even at 0 % of the traffic: that is where it is tested before users meet it.
    """
    assert state.stable is not None
    service = inference_service(
        config.name,
        config.namespace,
        state.stable.root,
        version=state.stable.version,
        service_account=state.service_account,
        runtime=state.runtime,
        gpus=state.gpus,
        min_replicas=state.min_replicas,
        max_replicas=state.max_replicas,
        lineage_digest=state.stable.digest,
        annotations={AUTOSCALER: state.autoscaler} if state.autoscaler else None,
    )
    if state.canary is not None:
        # The CRD requires the name of the container here, unlike for the stable predictor.
        model = copy.deepcopy(service["spec"]["predictor"]["model"]) | {"name": "kserve-container"}
        model["storageUri"] = state.canary.root
        # KServe takes what is left out from the stable predictor, and refuses to scale a canary automatically.
        predictor = {"name": canary_name(state.canary.version), "minReplicas": 1, "model": model}
        service["spec"]["canary"] = [{"trafficPercent": state.traffic, "predictor": predictor}]
        service["metadata"]["annotations"] |= {
            CANARY_VERSION: state.canary.version,
            CANARY_LINEAGE: state.canary.digest,
        }
    return service


def canary_name(version: str) -> str:
    """The name of a version's canary: it becomes part of a Service's name, so at most 12 of a-z, 0-9 and -."""
    plain = re.sub(r"[^a-z0-9]+", "-", version.lower()).strip("-")
    if plain != version or len(plain) > 11:
        plain = hashlib.sha256(version.encode()).hexdigest()[:8]
    return f"v{plain}"


def canary_url(config: ServingConfig, state: State) -> str:
    """Where the canary's own Service answers inside the cluster, ``http://host:port``.

    KServe names it ``<service>-<canary>-predictor``. Scheme and port are those of the stable version's address, as
    they depend on how KServe was installed (a headless Service has no port 80).
    """
    assert state.canary is not None
    parts = urlsplit(state.address)
    inside = ".svc" in (parts.hostname or "")
    domain = parts.hostname.partition(".")[2] if inside and parts.hostname else f"{config.namespace}.svc.cluster.local"
    scheme, port = (parts.scheme or "http", parts.port) if inside else ("http", None)
    host = f"{config.name}-{canary_name(state.canary.version)}-predictor.{domain}"
    return f"{scheme}://{host}:{port or (443 if scheme == 'https' else 80)}"
