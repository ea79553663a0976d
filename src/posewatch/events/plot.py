"""The plot of an event report: for each video the annotated events, the probability and the alarms."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.events.timeline import Window, by_video, highest, smooth
from posewatch.recognition.evaluation.plots import BLUE, GREY, INK, ORANGE, styled, write_figure

ROWS = 10
"""Videos shown at most."""


def plot(report: dict[str, Any], windows: Iterable[Window], path: Path) -> Path:
    """Draw a report of ``events.report`` on ``windows`` to a PNG; the videos with the most errors come first."""
    timelines = {video: highest(of) for video, of in by_video(smooth(windows, report["step_s"])).items()}
    rows = sorted(report["timelines"], key=lambda t: (-_errors(t), t["video"]))[:ROWS]
    with styled() as plt:
        figure, axes = plt.subplots(
            len(rows), 1, figsize=(10, 1.1 + 1.05 * len(rows)), squeeze=False, layout="constrained"
        )
        for axis, timeline in zip(axes[:, 0], rows, strict=True):
            _row(axis, timeline, timelines[timeline["video"]].p, report)
        axes[-1, 0].set_xlabel("seconds")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        shown = f"{len(rows)} of {report['videos']} videos; " if len(rows) < report["videos"] else ""
        figure.suptitle(
            f"{shown}{report['events']} events, {report['missed']} missed, "
            f"{report['false_alarms_per_hour']:.1f} false alarms per camera-hour, "
            f"event F1 {report['iou_0.2']['f1']:.2f} at IoU 0.2",
            fontsize=10, fontweight="bold", x=0.01, ha="left",
        )  # fmt: skip
        return write_figure(plt, figure, path)


def _errors(timeline: dict[str, Any]) -> int:
    """Missed events and false alarms."""

    def apart(a: list[float], spans: list[list[float]]) -> bool:
        return all(a[1] <= b[0] or b[1] <= a[0] for b in spans)

    events, alarms = timeline["events"], timeline["alarms"]
    return sum(apart(e, alarms) for e in events) + sum(apart(a, events) for a in alarms)


def _row(axis: Any, timeline: dict[str, Any], p: NDArray[Any], report: dict[str, Any]) -> None:
    edges = np.arange(len(p) + 1) * report["step_s"]
    axis.stairs(p, edges, color=INK, lw=1.1, label="probability", baseline=None)
    hysteresis = report["hysteresis"]
    axis.axhline(hysteresis["on"], color=GREY, lw=0.8, ls="--", label="threshold on")
    axis.axhline(hysteresis["off"], color=GREY, lw=0.8, ls=":", label="threshold off")
    for spans, low, colour, name in (
        (timeline["events"], 1.08, BLUE, "annotated event"),
        (timeline["alarms"], -0.28, ORANGE, "alarm"),
    ):
        bars = [(s[0], s[1] - s[0]) for s in spans]
        axis.broken_barh(bars or [(0, 0)], (low, 0.2), color=colour, lw=0, label=name)
    axis.set_xlim(0, max(timeline["end_s"], *(e[1] for e in timeline["events"]), 0.1))
    axis.set_ylim(-0.34, 1.34)
    axis.set_yticks([0, 1])
    axis.set_title(timeline["video"], fontsize=8, fontweight="normal", pad=2)
