"""The objects that lead clients to versions: two Services, the routing file of the watchers, and Gateway API routes.

Clients ask the stable Service, ``<name>``; ``<name>-canary`` leads to the version on trial, else to the stable one.
Both select the pods of one InferenceService by the label that KServe gives them, so a switch changes a selector and
no pod. Shares below 100 % are taken by watchers, which read ``route.json``, and by the routes of a gateway.
"""

from __future__ import annotations

import json
from typing import Any

from posewatch.config import ServingConfig
from posewatch.deploy.manifests import SERVICE, Endpoint
from posewatch.deploy.runtime import GRPC, HTTP, part_of
from posewatch.deploy.target import Release

POD = "serving.kserve.io/inferenceservice"
"""The label by which KServe's pods name their InferenceService."""
ROUTE_FILE = "route.json"


def stable_name(config: ServingConfig) -> str:
    """The Service that clients ask."""
    return config.name


def canary_name(config: ServingConfig) -> str:
    """The Service of the version that is tried."""
    return f"{config.name}-canary"


def endpoint(config: ServingConfig, service: str, release: Release) -> Endpoint:
    """Where a Service answers inside the cluster, whatever the cluster's domain is."""
    url = f"grpc://{service}.{config.namespace}.svc:{GRPC}"
    return Endpoint(config.name, config.namespace, config.name, release.version, url)


def service(config: ServingConfig, name: str, selected: str) -> dict[str, Any]:
    """The Service ``name``, leading to the pods of the InferenceService ``selected``."""
    ports = [
        {"name": "http", "port": 80, "targetPort": HTTP, "protocol": "TCP"},
        {"name": "grpc", "port": GRPC, "targetPort": GRPC, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"},
    ]
    spec = {"type": "ClusterIP", "selector": {POD: selected}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta(config, name), "spec": spec}


def routing_file(config: ServingConfig, stable: Release, canary: Release | None, percent: int) -> dict[str, Any]:
    """The ConfigMap ``<name>-route``, which watchers mount (see ``inference.routed``)."""
    route: dict[str, Any] = {"stable": {"version": stable.version}, "percent": percent if canary else 0}
    if canary is not None:
        route["canary"] = {"version": canary.version, "endpoint": endpoint(config, canary_name(config), canary).uri}
    data = {ROUTE_FILE: json.dumps(route, indent=1, sort_keys=True) + "\n"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _meta(config, f"{config.name}-route"), "data": data}


def gateway_routes(config: ServingConfig, percent: int) -> list[dict[str, Any]]:
    """The HTTPRoute and the GRPCRoute that share requests between the two Services; [] without ``serving.gateway``.

    Gateway API lets an HTTPRoute and a GRPCRoute of one gateway not share a host name, so each has its own option.
    """
    if not config.gateway:
        return []
    namespace, _, name = config.gateway.rpartition("/")
    parent = {"name": name, **({"namespace": namespace} if namespace else {})}
    routes = []
    for kind, hostname, port in (("HTTPRoute", config.hostname, 80), ("GRPCRoute", config.grpc_hostname, GRPC)):
        if not hostname:
            continue
        shares = ((stable_name(config), 100 - percent), (canary_name(config), percent))
        backends = [{"name": service, "port": port, "weight": weight} for service, weight in shares]
        rule: dict[str, Any] = {"backendRefs": backends}
        if kind == "HTTPRoute":
            rule["matches"] = [{"path": {"type": "PathPrefix", "value": "/v2"}}]
        routes.append(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": kind,
                "metadata": _meta(config, config.name),
                "spec": {"parentRefs": [parent], "hostnames": [hostname], "rules": [rule]},
            }
        )
    return routes


def _meta(config: ServingConfig, name: str) -> dict[str, Any]:
    return {"name": name, "namespace": config.namespace, "labels": {**part_of(name), SERVICE: config.name}}
