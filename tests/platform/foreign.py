"""Schemas of what the chart makes of other people's kinds: exactly the fields that it uses, closed.

Their CRDs are not in this repository. The rendered objects were checked once against those of KEDA, the Prometheus
operator, the Gateway API (1.6, experimental channel) and Istio of August 2026; a field that the chart begins to
use has to be looked up there first.
"""

from __future__ import annotations

from typing import Any

TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": TEXT, "minProperties": 1}


def some(required: str, **properties: Any) -> dict[str, Any]:
    """An object with these properties and no others; ``required`` names some of them, with spaces."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": properties,
    }


def several(item: dict[str, Any]) -> dict[str, Any]:
    """A list of at least one."""
    return {"type": "array", "items": item, "minItems": 1}


EXPRESSION = some("key operator", key=TEXT, operator={"enum": ["In", "NotIn", "Exists", "DoesNotExist"]})
SELECTOR = some("", matchLabels=TEXTS, matchExpressions=several(EXPRESSION)) | {"minProperties": 1}
RELABEL = some(
    "action",
    action={"enum": ["replace", "keep", "drop", "labelmap", "labeldrop", "labelkeep"]},
    sourceLabels=several(TEXT),
    regex=TEXT,
    replacement=TEXT,
    targetLabel=TEXT,
)
ENDPOINT = some(
    "port path",
    port=TEXT,
    path=TEXT,
    interval={"type": "string", "pattern": "^[0-9]+[sm]$"},
    relabelings=several(RELABEL),
)
RULE = some(
    "expr",
    record={"type": "string", "pattern": "^[a-z_]+:[a-z_]+:[a-z0-9_]+$"},
    alert={"type": "string", "pattern": "^Posewatch[A-Z][A-Za-z]+$"},
    expr=TEXT,
    **{"for": {"type": "string", "pattern": "^[0-9]+[smh]$"}},
    labels=some("severity", severity={"enum": ["warning", "critical"]}, namespace=TEXT),
    annotations=some("summary runbook_url", summary=TEXT, runbook_url={"type": "string", "pattern": "^https://"}),
)
SCHEMAS: dict[tuple[str, str], dict[str, Any]] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): some(
        "selector endpoints", selector=SELECTOR, endpoints=several(ENDPOINT)
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): some(
        "selector podMetricsEndpoints", selector=SELECTOR, podMetricsEndpoints=several(ENDPOINT)
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): some(
        "groups", groups=several(some("name rules", name=TEXT, rules=several(RULE)))
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): some(
        "parentRefs rules",
        parentRefs=several(some("name", name=TEXT, namespace=TEXT, sectionName=TEXT, port=COUNT)),
        hostnames=several(TEXT),
        rules=several(
            some(
                "matches backendRefs",
                matches=several(some("path", path=some("type value", type={"const": "PathPrefix"}, value=TEXT))),
                backendRefs=several(some("name port", name=TEXT, port=COUNT)),
            )
        ),
    ),
    ("networking.istio.io/v1", "VirtualService"): some(
        "hosts http",
        gateways=several(TEXT),
        hosts=several(TEXT),
        http=several(
            some(
                "match route",
                match=several(some("uri", uri=some("prefix", prefix=TEXT))),
                route=several(
                    some("destination", destination=some("host", host=TEXT, port=some("number", number=COUNT)))
                ),
                timeout={"type": "string", "pattern": r"^[1-9]\d*(ms|s|m|h)$"},  # from 1 ms on, since Istio 1.24
            )
        ),
    ),
    ("networking.istio.io/v1", "DestinationRule"): some(
        "host",
        host=TEXT,
        trafficPolicy=some(
            "loadBalancer",
            loadBalancer=some(
                "consistentHash",
                consistentHash=some("httpCookie", httpCookie=some("name ttl", name=TEXT, path=TEXT, ttl=TEXT)),
            ),
        ),
    ),
    ("security.istio.io/v1", "AuthorizationPolicy"): some(
        "selector rules",
        action={"const": "ALLOW"},
        selector=SELECTOR,
        rules=several(
            some(
                "",
                **{"from": several(some("source", source=some("principals", principals=several(TEXT))))},
                to=several(some("operation", operation=some("paths", methods=several(TEXT), paths=several(TEXT)))),
            )
        ),
    ),
}
