"""The Grafana dashboards of the chart, from the tables below. ``python helm/make_dashboards.py`` (`make dashboards`).

Each panel is one question with one or two queries; the name of an alert in its title leads to docs/operations.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "posewatch" / "dashboards"
WIDTH, HEIGHT = 12, 8
ON = 'namespace="$namespace"'


@dataclass(frozen=True)
class Panel:
    """``queries`` map legends to PromQL; ``unit`` is Grafana's; ``limit`` draws a line where an alert begins."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    text: str = ""
    limit: float | None = None
    kind: str = "timeseries"


def _ratio(part: str, rest: str, by: str, window: str = "5m") -> str:
    """The share of ``part`` in both counters together."""
    share = f"sum by ({by}) (rate({part}[{window}]))"
    return f"{share} / ({share} + sum by ({by}) (rate({rest}[{window}])))"


def _mean(sum_: str, count: str, by: str, window: str = "5m") -> str:
    return f"sum by ({by}) (rate({sum_}[{window}])) / sum by ({by}) (rate({count}[{window}]))"


def _nv(name: str, more: str = "") -> str:
    return f"nv_inference_{name}{{{ON}{more}}}"


def _watch(name: str, more: str = "") -> str:
    return f"posewatch_watch_{name}{{{ON}{more}}}"


def _labeling(name: str, more: str = "") -> str:
    return f"posewatch_labeling_{name}{{{ON}{more}}}"


DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "serving": (
        "posewatch: serving",
        (
            Panel(
                "Clips per second", {"{{model}} v{{version}}": f"sum by (model, version) (rate({_nv('count')}[5m]))"}
            ),
            Panel(
                "Latency",
                {
                    "mean {{model}}": _mean(_nv("request_duration_us"), _nv("request_success"), "model") + " / 1e6",
                    "p99 {{model}}": "max by (model) (" + _nv("request_summary_us", ',quantile="0.99"') + ") / 1e6",
                },
                "s",
                "Within the server, from a request's arrival to its answer. PosewatchServingSlow.",
                0.5,
            ),
            Panel(
                "Waiting in the queue",
                {"{{model}}": _mean(_nv("queue_duration_us"), _nv("request_success"), "model") + " / 1e6"},
                "s",
                "What KEDA scales by, with the number of waiting requests. PosewatchServingQueueing.",
                0.1,
            ),
            Panel("Requests that wait", {"{{pod}}": f"sum by (pod) ({_nv('pending_request_count')})"}),
            Panel(
                "Clips per execution",
                {"{{model}}": _mean(_nv("count"), _nv("exec_count"), "model")},
                text="1 means that nothing is batched: too little load, or serving.queue_delay_us too short.",
            ),
            Panel(
                "Failures",
                {"{{reason}}": f"sum by (reason) (rate({_nv('request_failure')}[5m]))"},
                "reqps",
                "REJECTED: the queue is full. CANCELED: a client gave up. PosewatchServingFailing.",
            ),
            Panel(
                "Computing",
                {"{{model}}": _mean(_nv("compute_infer_duration_us"), _nv("exec_count"), "model") + " / 1e6"},
                "s",
                "Of one execution, whatever its batch.",
            ),
            Panel("Replicas that answer", {"replicas": f"count(count by (pod) ({_nv('count')}))"}),
        ),
    ),
    "watchers": (
        "posewatch: cameras",
        (
            Panel(
                "Cameras that are watched",
                {"watched": f"sum({_watch('camera_up')})", "all": f"count({_watch('camera_up')})"},
                text="PosewatchCameraDown, PosewatchWatcherMissing.",
            ),
            Panel(
                "Alarms", {"{{camera}}": f"sum by (camera) (increase({_watch('alarms_total')}[1h]))"}, text="Per hour."
            ),
            Panel(
                "Behind",
                {"{{camera}}": f"max by (camera) ({_watch('behind_seconds')})"},
                "s",
                "Age of the picture that was watched last. PosewatchWatcherBehind.",
                5,
            ),
            Panel(
                "Pictures dropped",
                {"{{camera}}": _ratio(_watch("frames_dropped_total"), _watch("frames_total"), "camera", "10m")},
                "percentunit",
                "What nobody had time for. PosewatchWatcherDropping.",
                0.1,
            ),
            Panel(
                "Windows without an answer",
                {"{{camera}}": _ratio(_watch("windows_refused_total"), _watch("windows_total"), "camera")},
                "percentunit",
                "PosewatchModelSilent.",
                0.05,
            ),
            Panel(
                "Probabilities",
                {"{{le}}": f"sum by (le) (increase({_watch('probability_bucket')}[$__rate_interval]))"},
                text="Windows by the probability of the watched class, all cameras.",
                kind="heatmap",
            ),
            Panel(
                "Drift",
                {
                    "{{camera}}": "max by (camera) (abs("
                    f"posewatch:window_probability:cdf1h{{{ON}}} - posewatch:window_probability:cdf7d{{{ON}}}))"
                },
                "percentunit",
                "How far the last hour is from the last week, 0 to 1. PosewatchInputDrift.",
                0.2,
            ),
            Panel("Persons", {"{{camera}}": f"avg by (camera) ({_watch('persons')})"}),
            Panel(
                "Messages that wait for the webhook",
                {
                    "{{camera}}": f"sum by (camera) ({_watch('outbox_messages')})",
                    "failures {{camera}}": f"sum by (camera) (increase({_watch('webhook_failures_total')}[10m]))",
                },
                text="PosewatchOutboxWaiting.",
            ),
            Panel(
                "Connections and restarts",
                {
                    "connects {{camera}}": f"sum by (camera) (increase({_watch('connects_total')}[1h]))",
                    "restarts {{camera}}": f"sum by (camera) (increase({_watch('restarts_total')}[1h]))",
                },
                text="Per hour. PosewatchWatcherRestarting.",
            ),
        ),
    ),
    "labeling": (
        "posewatch: labeling",
        (
            Panel(
                "Clips",
                {"{{state}}": f"max by (state) ({_labeling('clips')})"},
                text="All, labelled, and those on which people disagree (the page Review).",
            ),
            Panel(
                "Labels left",
                {
                    "clips": f"max({_labeling('clips', ',state=' + chr(34) + 'all' + chr(34))})"
                    f" - max({_labeling('clips', ',state=' + chr(34) + 'labelled' + chr(34))})"
                },
            ),
            Panel(
                "Acts",
                {"{{kind}} {{outcome}}": f"sum by (kind, outcome) (rate({_labeling('acts_total')}[5m])) * 60"},
                text="Per minute. PosewatchLabelingRefusing.",
            ),
            Panel(
                "Seconds per act",
                {
                    "p95": f"histogram_quantile(0.95, sum by (le) (rate({_labeling('act_seconds_bucket')}[10m])))",
                    "mean": _mean(_labeling("act_seconds_sum"), _labeling("act_seconds_count"), "namespace", "10m"),
                },
                "s",
                "PosewatchLabelingSlow.",
                1,
            ),
            Panel(
                "Seconds per page",
                {"p95": f"histogram_quantile(0.95, sum by (le) (rate({_labeling('page_seconds_bucket')}[10m])))"},
                "s",
            ),
            Panel(
                "Label store",
                {"{{pod}}": f"min by (pod) ({_labeling('database_up')})"},
                text="1: it answers. PosewatchLabelStoreDown.",
            ),
        ),
    ),
}


def dashboard(name: str) -> dict[str, Any]:
    """The dashboard as Grafana imports it (schema version 39)."""
    title, panels = DASHBOARDS[name]
    return {
        "uid": f"posewatch-{name}",
        "title": title,
        "tags": ["posewatch"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
                {
                    "name": "namespace",
                    "type": "query",
                    "label": "Namespace",
                    "datasource": _source(),
                    "query": {"query": f"label_values({_first_metric(panels)}, namespace)", "refId": "namespace"},
                    "refresh": 2,
                    "sort": 1,
                },
            ]
        },
        "panels": [_panel(panel, i) for i, panel in enumerate(panels)],
    }


def _source() -> dict[str, str]:
    return {"type": "prometheus", "uid": "${datasource}"}


def _first_metric(panels: tuple[Panel, ...]) -> str:
    query = next(iter(panels[0].queries.values()))
    return query.split("{")[0].rsplit("(", 1)[-1]


def _panel(panel: Panel, place: int) -> dict[str, Any]:
    x, y = place % 2 * WIDTH, place // 2 * HEIGHT
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.limit is not None:
        steps = [{"color": "transparent", "value": None}, {"color": "red", "value": panel.limit}]
        defaults |= {
            "thresholds": {"mode": "absolute", "steps": steps},
            "custom": {"thresholdsStyle": {"mode": "line"}},
        }
    made: dict[str, Any] = {
        "id": place + 1,
        "type": panel.kind,
        "title": panel.title,
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "datasource": _source(),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + i), "expr": query, "legendFormat": legend, "datasource": _source()}
            | ({"format": "heatmap"} if panel.kind == "heatmap" else {})
            for i, (legend, query) in enumerate(panel.queries.items())
        ],
    }
    return made | ({"description": panel.text} if panel.text else {})


def text(name: str) -> str:
    """The file's content."""
    return json.dumps(dashboard(name), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in DASHBOARDS:
        half = FOLDER / f".{name}.half"
        half.write_text(text(name), encoding="utf-8")
        half.replace(FOLDER / f"{name}.json")
        print(FOLDER / f"{name}.json")
