"""Alerts, dashboards and autoscaling: each query parses, asks for figures that are really shown, and works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_models import SHAPE, tiny_model

from posewatch.config import ServingConfig
from posewatch.deploy import figures
from posewatch.deploy.manifests import inference_service
from posewatch.deploy.target import Release
from posewatch.inference.open import open_predictor
from posewatch.inference.triton_admin import load_model
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer
from posewatch.watch import metrics as watch_metrics

from .chart import CHART, NAMESPACE, ROOT, Body, load_script, named, render

BOX = CHART / "examples" / "kubeflow-multi-tenant.yaml"
PROMETHEUS = {"up": {"namespace", "job"}}
"""What Prometheus itself says of whatever it scrapes."""
PLACES = {"namespace", "pod", "job"}
"""Labels that the Prometheus operator gives to everything."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every figure that a real Triton, the labeling page and the watcher show, with the names of its labels."""
    texts = [_triton(tmp_path_factory.mktemp("triton")), _labeling(tmp_path_factory.mktemp("labels")), _watcher()]
    found: dict[str, set[str]] = {}
    for line in "\n".join(texts).splitlines():
        # Triton's counters have no _total at their end: the client library's parser would give them one.
        if match := re.match(r"([a-z_][a-z0-9_]*)(?:\{(.*)\})? [0-9.eE+-]+(?:Inf|NaN)?$", line):
            found.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    return found


def _triton(home: Path) -> str:
    with TritonServer.start(home / "models", log=home / "log") as server:
        write_repository(tiny_model(home / "model.onnx"), server.repository, name="tiny")
        load_model(server.grpc, "tiny")
        with open_predictor(f"grpc://{server.grpc}/tiny") as predictor:
            predictor.predict(np.zeros((2, *SHAPE), np.float32))
        with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=20) as answer:
            return str(answer.read().decode())


def _labeling(home: Path) -> str:
    """In a process of its own, because the counters are global."""
    code = (
        "from labeling_ui import metrics as m\n"
        "from labeling_ui import wiring\n"
        "from posewatch.labels.db import tables\n"
        "said = dict(alarm='a', verdict='true', who='op', when='2026-03-01T09:05:00+00:00', batch='b', record='r')\n"
        "said |= dict(kind='alarm', camera='door', began='2026-03-01T09:00:00+00:00', version='1')\n"
        "wiring.label_store().database.execute(tables.verdicts.insert(), said)\n"
        "with m.timed('page'), m.timed('act'): m.ACTS.labels('label', 'saved').inc()\n"
        "print(m.text().decode())"
    )
    path = os.pathsep.join([str(ROOT / "labeling-service"), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "POSEWATCH_LABELS_URL": f"sqlite:///{home / 'labels.db'}"}
    return subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout


def _watcher() -> str:
    status: dict[str, Any] = {
        "frames": 1,
        "windows": 1,
        "refused": 0,
        "compared": 1,
        "strange": 0,
        "alarms": 1,
        "behind_s": 0.1,
        "persons": 1,
        "raised": 1,
        "outbox": 0,
    }
    camera = {"connected": True, "dropped": 0, "connects": 1}
    version = {"windows": 1, "answer_s": 0.1, "watched_s": 0.5, "alarms": 1}
    status["versions"] = {"03512cb6d4b6": version}
    more = {"webhook_failures": 0, "histogram": [1] * 10, "probability_sum": 5.0, "at": 100.0, "camera": camera}
    return watch_metrics.text([("door", True, 0, status | more)], 100.0).decode()


def rule_groups() -> list[Body]:
    groups: list[Body] = named(render(BOX), "PrometheusRule", "posewatch")["spec"]["groups"]
    return groups


def alerts() -> list[Body]:
    return [rule for group in rule_groups() for rule in group["rules"] if "alert" in rule]


def queries() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of every query of the chart; Grafana's variables are replaced by what they may hold."""
    for group in rule_groups():
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for path in sorted((CHART / "dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text())
        asked = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]
        asked += [(mark["name"], mark["expr"]) for mark in dashboard["annotations"]["list"]]
        for title, query in asked:
            query = query.replace("$namespace", NAMESPACE).replace("$__rate_interval", "5m")
            yield f"{path.stem}: {title}", query
    config = ServingConfig(namespace=NAMESPACE, autoscaler="keda", prometheus="http://prometheus:9090")
    body = inference_service(config, Release("1", "s3://posewatch/models/abnormal/1/", "0" * 64))
    (metric,) = body["spec"]["predictor"]["autoScaling"]["metrics"]
    assert f'pod=~"{body["metadata"]["name"]}-predictor-.*"' in metric["external"]["metric"]["query"]
    yield "KEDA", metric["external"]["metric"]["query"]
    yield from (("posewatch history", figures.query(config, name, 1.0)) for name in figures.SUMS)


def selectors(query: str) -> list[tuple[str, set[str]]]:
    """(figure, labels that are compared) of every selector in a query."""
    import promql_parser as promql

    out: list[tuple[str, set[str]]] = []

    def walk(node: Any) -> None:
        if isinstance(node, promql.VectorSelector):
            out.append((node.name, {matcher.name for matcher in node.matchers.matchers}))
        for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
            child = getattr(node, name, None)
            if child is not None and not isinstance(child, str | int | float):
                walk(child)
        for argument in getattr(node, "args", None) or ():
            walk(argument)

    walk(promql.parse(query))
    return out


def test_every_query_asks_for_what_is_shown(shown: dict[str, set[str]]) -> None:
    recorded = {
        rule["record"]: {"camera", "model", "le"} for g in rule_groups() for rule in g["rules"] if "record" in rule
    }
    known = shown | PROMETHEUS | recorded
    asked: set[str] = set()
    for where, query in queries():
        found = selectors(query)
        assert found, f"{where}: no figure in {query}"
        for name, labels in found:
            assert name in known, f"{where} asks for {name}, which nobody shows"
            assert labels <= known[name] | PLACES, f"{where}: {name} has no label {labels - known[name] - PLACES}"
            assert "namespace" in labels, f"{where}: {name} of every team"
            asked.add(name)
    unasked = {n for n in shown if n.startswith("posewatch_watch") and not n.endswith(("_sum", "_created"))} - asked
    assert unasked <= {"posewatch_watch_alarm"}, "a figure that nobody looks at"


def test_each_alert_has_its_section() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    titles = {line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")}
    names = [alert["alert"] for alert in alerts()]
    assert len(names) == len(set(names)) == 16
    assert set(names) == {title for title in titles if title.startswith("Posewatch")}
    for alert in alerts():
        assert alert["annotations"]["runbook_url"].endswith(f"/docs/operations.md#{alert['alert'].lower()}")


def test_limits_come_from_the_values() -> None:
    loose = named(render(BOX, sets=("monitoring.rules.latencySeconds=3",)), "PrometheusRule", "posewatch")
    (slow,) = [r for g in loose["spec"]["groups"] for r in g["rules"] if r.get("alert") == "PosewatchServingSlow"]
    assert slow["expr"].endswith("> 3")
    assert not [query for _, query in queries() if "${" in query]


def test_rules_only_for_what_runs() -> None:
    sets = ("watcher.groups=null", "labeling.enabled=false", "labeling.istio.enabled=false")
    groups = named(render(BOX, sets=sets), "PrometheusRule", "posewatch")["spec"]["groups"]
    assert [group["name"] for group in groups] == ["posewatch.serving"]


def test_the_dashboards_are_those_of_the_script() -> None:
    script = load_script(ROOT / "helm" / "make_dashboards.py")
    there = {path.stem: path.read_text() for path in (CHART / "dashboards").glob("*.json")}
    assert there == {name: script.text(name) for name in script.DASHBOARDS}, "make dashboards"
    maps = [
        b for b in render(BOX) if b["kind"] == "ConfigMap" and b["metadata"]["name"].startswith("posewatch-dashboard-")
    ]
    assert len(maps) == len(there)
    for body in maps:
        assert body["metadata"]["labels"]["grafana_dashboard"] == "1"
        ((name, text),) = body["data"].items()
        assert json.loads(text) == json.loads(there[name.removesuffix(".json")])


def _promtool() -> str:
    found = os.environ.get("POSEWATCH_PROMTOOL") or shutil.which("promtool")
    if not found:
        pytest.skip("no promtool on PATH (Debian: apt-get install prometheus; or POSEWATCH_PROMTOOL=FILE)")
    return found


def test_each_alert_is_raised_by_what_it_is_for(tmp_path: Path) -> None:
    """Prometheus' own tool runs the rules over made-up hours."""
    tool = _promtool()
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": rule_groups()}))
    shutil.copy(Path(__file__).parent / "alerts.yaml", tmp_path)
    for words in (["check", "rules", "rules.yaml"], ["test", "rules", "alerts.yaml"]):
        done = subprocess.run([tool, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tried() -> None:
    told = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text())
    raised = {case["alertname"] for test in told["tests"] for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert raised == {alert["alert"] for alert in alerts()}
