"""The chart's Grafana dashboards, from ``dashboards.yaml``: ``python helm/make_dashboards.py`` (`make dashboards`).

Each panel is one question with one or two queries; the name of an alert in its text leads to docs/operations.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "posewatch" / "dashboards"
DASHBOARDS: dict[str, Any] = yaml.safe_load((HERE / "dashboards.yaml").read_text(encoding="utf-8"))
WIDTH, HEIGHT = 12, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard(name: str) -> dict[str, Any]:
    """The dashboard as Grafana imports it (schema version 39)."""
    panels = DASHBOARDS[name]["panels"]
    first = next(iter(panels[0]["queries"].values())).split("{")[0].rsplit("(", 1)[-1]
    return {
        "uid": f"posewatch-{name}",
        "title": DASHBOARDS[name]["title"],
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
                    "datasource": SOURCE,
                    "query": {"query": f"label_values({first}, namespace)", "refId": "namespace"},
                    "refresh": 2,
                    "sort": 1,
                },
            ]
        },
        "annotations": {"list": [_mark(*mark) for mark in DASHBOARDS[name].get("marks", {}).items()]},
        "panels": [_panel(panel, i) for i, panel in enumerate(panels)],
    }


def _mark(name: str, query: str) -> dict[str, Any]:
    """Moments that are marked in all panels: those at which ``query`` has an answer."""
    about = {"name": name.partition(": ")[0], "titleFormat": name.partition(": ")[2]}
    return {**about, "datasource": SOURCE, "enable": True, "iconColor": "purple", "expr": query, "step": "60s"}


def _panel(panel: dict[str, Any], place: int) -> dict[str, Any]:
    x, y = place % 2 * WIDTH, place // 2 * HEIGHT
    kind = panel.get("kind", "timeseries")
    defaults: dict[str, Any] = {"unit": panel.get("unit", "short"), "min": 0}
    if "limit" in panel:
        steps = [{"color": "transparent", "value": None}, {"color": "red", "value": panel["limit"]}]
        defaults |= {
            "thresholds": {"mode": "absolute", "steps": steps},
            "custom": {"thresholdsStyle": {"mode": "line"}},
        }
    made: dict[str, Any] = {
        "id": place + 1,
        "type": kind,
        "title": panel["title"],
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + i), "expr": query, "legendFormat": legend, "datasource": SOURCE}
            | ({"format": kind} if kind == "heatmap" else {})
            for i, (legend, query) in enumerate(panel["queries"].items())
        ],
    }
    return made | ({"description": panel["text"]} if "text" in panel else {})


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
