"""What an InferenceService of posewatch looks like while versions change: the stable one, a canary beside it."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from posewatch.config import ServingConfig
from posewatch.deploy.kserve import LINEAGE, SERVICE_ACCOUNT, inference_service
from posewatch.errors import ServingError
from posewatch.kube.cluster import get

API, KIND = "serving.kserve.io/v1beta1", "InferenceService"
CANARY_VERSION, CANARY_LINEAGE = "posewatch/canary-version", "posewatch/canary-lineage-digest"
AUTOSCALER = "serving.kserve.io/autoscalerClass"
_GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Release:
    """One immutable published version: ``uri`` is the root of its repository, ``digest`` its manifest's sha256."""

    version: str
    uri: str
    digest: str

    @property
    def root(self) -> str:
        """``uri`` as KServe has to be given it: with one slash at the end."""
        return self.uri.rstrip("/") + "/"


@dataclass(frozen=True)
class State:
    """What the cluster says is deployed: the stable release, and the canary with its share of the traffic (percent)."""

    stable: Release | None = None
    canary: Release | None = None
    traffic: int = 0
    address: str = ""
    gpus: int = 0
    min_replicas: int = 1
    max_replicas: int = 1
    service_account: str = SERVICE_ACCOUNT
    autoscaler: str = ""


def look(config: ServingConfig, context: str | None = None) -> State:
    """The state of ``config.name`` on the cluster. Raises ServingError for a service that posewatch did not make."""
    found = get(API, KIND, config.name, config.namespace, context=context)
    return State() if found is None else state_of(found)


def state_of(found: Mapping[str, Any]) -> State:
    """The state that an InferenceService is in; see ``look``."""
    meta, predictor = found["metadata"], found["spec"]["predictor"]
    notes, model = meta.get("annotations") or {}, predictor.get("model") or {}
    version = (meta.get("labels") or {}).get("app.kubernetes.io/version", "")
    if not version or not model.get("storageUri"):
        raise ServingError(
            f"InferenceService {meta.get('namespace')}/{meta['name']} was not made by posewatch: choose another"
            " serving.name, or delete it first"
        )
    canary, traffic = None, 0
    for row in found["spec"].get("canary") or ():
        there = row["predictor"].get("model") or {}
        if row["predictor"].get("name") == canary_name(notes.get(CANARY_VERSION, "")):
            canary = Release(notes[CANARY_VERSION], there.get("storageUri", ""), notes.get(CANARY_LINEAGE, ""))
            traffic = int(row["trafficPercent"])
    return State(
        Release(version, model["storageUri"], notes.get(LINEAGE, "")),
        canary,
        traffic,
        str(((found.get("status") or {}).get("address") or {}).get("url") or ""),
        int(((model.get("resources") or {}).get("limits") or {}).get(_GPU, 0)),
        int(predictor.get("minReplicas") or 1),
        int(predictor.get("maxReplicas") or 1),
        str(predictor.get("serviceAccountName") or SERVICE_ACCOUNT),
        str(notes.get(AUTOSCALER, "")),
    )


def same(a: Release | None, b: Release | None) -> bool:
    """Whether both are the same bytes under the same name."""
    return a is not None and b is not None and (a.version, a.root, a.digest) == (b.version, b.root, b.digest)


def body(config: ServingConfig, state: State) -> dict[str, Any]:
    """The InferenceService that makes ``state`` true, as a plain dict for a server-side apply.

    A canary keeps one pod of its own even at 0 % of the traffic: that is where it is tested before users meet it.
    """
    assert state.stable is not None
    made = inference_service(
        config.name,
        config.namespace,
        state.stable.root,
        version=state.stable.version,
        service_account=state.service_account,
        gpus=state.gpus,
        min_replicas=state.min_replicas,
        max_replicas=state.max_replicas,
        lineage_digest=state.stable.digest,
        annotations={AUTOSCALER: state.autoscaler} if state.autoscaler else None,
    )
    if state.canary is not None:
        # The model's container has to be named here, which the stable one's need not be (the CRD says so).
        model = copy.deepcopy(made["spec"]["predictor"]["model"]) | {"name": "kserve-container"}
        model["storageUri"] = state.canary.root
        # What is left out is taken over from the stable predictor; autoscaling of a canary is refused by KServe.
        predictor = {"name": canary_name(state.canary.version), "minReplicas": 1, "model": model}
        made["spec"]["canary"] = [{"trafficPercent": state.traffic, "predictor": predictor}]
        made["metadata"]["annotations"] |= {
            CANARY_VERSION: state.canary.version,
            CANARY_LINEAGE: state.canary.digest,
        }
    return made


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
