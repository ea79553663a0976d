"""What the cluster has of one service: its versions, and where its two Services lead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posewatch.config import ServingConfig
from posewatch.deploy import traffic
from posewatch.deploy.manifests import LINEAGE, SERVICE
from posewatch.deploy.target import Release
from posewatch.errors import ServingError
from posewatch.kube.cluster import Cluster

API, KIND = "serving.kserve.io/v1beta1", "InferenceService"


@dataclass(frozen=True)
class Version:
    """A release on the cluster: ``name`` is that of its InferenceService, ``body`` the object."""

    name: str
    release: Release
    body: Mapping[str, Any]

    @property
    def former(self) -> bool:
        """Whether it was deployed by a version of posewatch that had one InferenceService for all releases."""
        return SERVICE not in (self.body["metadata"].get("labels") or {})


@dataclass(frozen=True)
class State:
    """``stable`` serves; ``trial`` is the version behind the canary Service, with ``percent`` of the traffic.

    ``versions`` are all that exist, the two included. A version that was deleted by hand is none.
    """

    stable: Version | None = None
    trial: Version | None = None
    percent: int = 0
    versions: tuple[Version, ...] = ()


def look(cluster: Cluster, config: ServingConfig) -> State:
    """The state of ``config.name``. Raises ServingError where its names are taken by objects of somebody else."""
    namespace = config.namespace
    listed = cluster.list(API, KIND, namespace, f"{SERVICE}={config.name}")
    found = [body for body in listed if (body["metadata"].get("labels") or {}).get(SERVICE) == config.name]
    former = cluster.get(API, KIND, config.name, namespace)
    versions = {v.name: v for v in map(_version, (*found, *([former] if former else [])))}
    stable = versions.get(_selected(cluster, config, traffic.stable_name(config)) or config.name)
    trial = versions.get(_selected(cluster, config, traffic.canary_name(config)))
    if trial is None or stable is None or trial.name == stable.name:
        return State(stable, None, 0, tuple(versions.values()))
    return State(stable, trial, _percent(cluster, config), tuple(versions.values()))


def _version(body: Mapping[str, Any]) -> Version:
    meta = body["metadata"]
    version = (meta.get("labels") or {}).get("app.kubernetes.io/version", "")
    uri = (body["spec"]["predictor"].get("model") or {}).get("storageUri", "")
    if not version or not uri:
        raise _foreign(body)
    return Version(meta["name"], Release(version, uri, (meta.get("annotations") or {}).get(LINEAGE, "")), body)


def _selected(cluster: Cluster, config: ServingConfig, name: str) -> str:
    """The InferenceService to whose pods a Service leads; "" if there is no such Service."""
    service = cluster.get("v1", "Service", name, config.namespace)
    if service is None:
        return ""
    if (service["metadata"].get("labels") or {}).get(SERVICE) != config.name:
        raise _foreign(service)
    return str((service["spec"].get("selector") or {}).get(traffic.POD, ""))


def _foreign(body: Mapping[str, Any]) -> ServingError:
    what = f"{body['kind']} {body['metadata'].get('namespace')}/{body['metadata']['name']}"
    return ServingError(f"{what} was not created by posewatch: choose another serving.name, or delete it first")


def _percent(cluster: Cluster, config: ServingConfig) -> int:
    route = cluster.get("v1", "ConfigMap", f"{config.name}-route", config.namespace)
    try:
        return int(json.loads((route or {})["data"][traffic.ROUTE_FILE])["percent"])
    except (KeyError, TypeError, ValueError):
        return 0
