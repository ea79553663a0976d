"""Who answers whom during a rollout: routes of a gateway, watchers, and what Prometheus knows of both versions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from posewatch.config import ServingConfig
from posewatch.deploy import figures, history, traffic
from posewatch.deploy.target import Release
from posewatch.errors import ConfigError, ServingError

GATEWAY: dict[str, Any] = {"gateway": "infra/public", "hostname": "a.example.org", "grpc_hostname": "g.example.org"}
ONE, TWO = (Release(v, f"s3://posewatch/models/abnormal/{v}/", v * 64) for v in ("1", "2"))


def test_the_routes_share_requests_between_both_services() -> None:
    http, grpc = traffic.gateway_routes(ServingConfig(**GATEWAY), 10)
    assert (http["kind"], http["spec"]["hostnames"]) == ("HTTPRoute", ["a.example.org"])
    assert (grpc["kind"], grpc["spec"]["hostnames"]) == ("GRPCRoute", ["g.example.org"])
    for route, port in ((http, 80), (grpc, 9000)):
        assert route["spec"]["parentRefs"] == [{"name": "public", "namespace": "infra"}]
        (rule,) = route["spec"]["rules"]
        shares = {(b["name"], b["port"]): b["weight"] for b in rule["backendRefs"]}
        assert shares == {("abnormal", port): 90, ("abnormal-canary", port): 10}
        assert set(rule) <= {"matches", "backendRefs"}, "standard channel only"
    assert traffic.gateway_routes(ServingConfig(), 10) == []
    assert [r["kind"] for r in traffic.gateway_routes(ServingConfig(gateway="infra/public", hostname="a.b"), 0)] == [
        "HTTPRoute"
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gateway": "infra/public"}, "serving.hostname or serving.grpc_hostname"),
        ({"gateway": "infra/public", "hostname": "a.b", "grpc_hostname": "a.b"}, "must differ"),
        ({"autoscaler": "keda"}, "needs serving.prometheus"),
        ({"autoscaler": "hpa2"}, r"none \(empty\), external, keda"),
        ({"strategy": "bluegreen"}, "rolling, recreate"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ServingConfig(**options)


def test_the_routing_file_names_the_canary_and_its_share() -> None:
    body = traffic.routing_file(ServingConfig(), ONE, TWO, 10)
    route = json.loads(body["data"][traffic.ROUTE_FILE])
    assert route["percent"] == 10
    endpoint = "grpc://abnormal-canary.posewatch.svc:9000/abnormal"
    assert route["canary"] == {"version": "2", "endpoint": endpoint}
    none = json.loads(traffic.routing_file(ServingConfig(), ONE, None, 10)["data"][traffic.ROUTE_FILE])
    assert none == {"stable": {"version": "1"}, "percent": 0}


VALUES = {
    "version_windows": {"1": 7200.0, "2": 800.0, "3": 0.0},
    "version_answer_seconds": {"1": 36.0, "2": 8.0, "3": 0.0},
    "version_watched_seconds": {"1": 36000.0, "2": 3600.0, "3": 0.0},
    "version_alarms": {"1": 5.0, "2": 2.0, "3": 0.0},
}


@pytest.fixture
def prometheus() -> Iterator[str]:
    """Answers instant queries as Prometheus' HTTP API does (docs: querying/api, "Instant queries")."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (query,) = parse_qs(urlsplit(self.path).query)["query"]
            name = next(n for n in VALUES if f"posewatch_watch_{n}_total" in query)
            result = [{"metric": {"version": v}, "value": [1764150000.1, str(x)]} for v, x in VALUES[name].items()]
            data = {"status": "success", "data": {"resultType": "vector", "result": result}}
            body = json.dumps(data if "[3600s]" in query else {"status": "error", "error": "parse error"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_both_versions_side_by_side(prometheus: str, free_port: int) -> None:
    config = ServingConfig(prometheus=prometheus)
    seen = figures.watched(config, 1.0)
    assert seen == {"1": figures.VersionFigures(10.0, 5.0, 5.0), "2": figures.VersionFigures(1.0, 2.0, 10.0)}
    assert (seen["1"].alarms_per_hour, seen["2"].alarms_per_hour) == (0.5, 2.0)
    lines = figures.table(seen, 1.0).splitlines()
    assert lines[2].split() == ["1", "0.50", "5", "10.0", "5", "ms"]
    event = history.Event("withdrawn", "2", "2" * 64, TWO.root, history.now(), "ada", watched=figures.rows(seen))
    assert "alarms per camera-hour: 1 0.50, 2 2.00" in history.text([event])
    assert figures.watched(ServingConfig(), 1.0) == {}
    with pytest.raises(ServingError, match="refuses a query: parse error"):
        figures.watched(config, 2.0)
    with pytest.raises(ServingError, match=r"gives no answer: .*check serving\.prometheus"):
        figures.watched(ServingConfig(prometheus=f"http://127.0.0.1:{free_port}"), 1.0)
