"""False alarms per camera-hour and recall of two versions on the same recordings: counted, compared, drawn.

An alarm is that of the watcher: at a version's own threshold what it raised, at any other what its rule
(``watch.states``) raises from the same windows. An act is found if an alarm overlaps it; an alarm that overlaps no act
is false.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.events.alarms import Hysteresis
from posewatch.recognition.evaluation.plots import BLUE, GREY, INK, ORANGE, styled, write_figure
from posewatch.watch.config import WatchConfig
from posewatch.watch.states import States

Windows = Mapping[str, Sequence[tuple[float, float]]]
"""Of each recording (end in seconds, probability) of its windows."""
Truth = Mapping[str, Sequence[tuple[float, float]]]
OFF, MERGE_S = 0.8, 2.0
"""As `posewatch watch` has them by default: the lower threshold, as a share of the upper one, and --merge-s."""
RECALL = 0.9
"""At which versions are compared, as in ``bench.loop``."""
THRESHOLDS = 80
NAMES = {"before": "the first version", "after": "the version that learned from verdicts"}


@dataclass(frozen=True)
class Point:
    """What a version raises at one threshold: acts found of ``acts``, and false alarms in ``hours`` of camera time."""

    threshold: float
    found: int
    acts: int
    false_alarms: int
    hours: float

    @property
    def recall(self) -> float:
        return self.found / max(1, self.acts)

    @property
    def per_hour(self) -> float:
        """False alarms per camera-hour."""
        return self.false_alarms / self.hours


def alarms_at(windows: Sequence[tuple[float, float]], on: float, config: WatchConfig) -> list[tuple[float, float]]:
    """(start, end) in seconds of the alarms that the watcher raises from the windows of one recording."""
    limits = Hysteresis(on, OFF * on, 0.0, MERGE_S)
    states, found = States(replace(config, hysteresis=limits)), []
    for end_s, p in windows:
        found += [event for _, event in states.update(None, end_s, p)]
    found += [event for _, event in states.finish(windows[-1][0])] if windows else []
    return [(event.start_s, event.end_s) for event in found if event.kind == "ended"]


def point(windows: Windows, truth: Truth, on: float, config: WatchConfig) -> Point:
    """Count all recordings at one threshold."""
    found = acts = false = 0
    for name, rows in windows.items():
        alarms, true = alarms_at(rows, on, config), truth[name]
        acts += len(true)
        found += sum(any(a < stop and b > start for a, b in alarms) for start, stop in true)
        false += sum(not any(a < stop and b > start for start, stop in true) for a, b in alarms)
    return Point(on, found, acts, false, sum(rows[-1][0] for rows in windows.values()) / 3600)


def curve(windows: Windows, truth: Truth, config: WatchConfig) -> list[Point]:
    """The points at thresholds from high to low."""
    values = np.unique([p for rows in windows.values() for _, p in rows if p > 0])
    if len(values) > THRESHOLDS:
        values = values[np.unique(np.linspace(0, len(values) - 1, THRESHOLDS).round().astype(int))]
    return [point(windows, truth, float(value), config) for value in values[::-1]]


def compared(
    before: Windows, after: Windows, truth: Truth, thresholds: tuple[float, float], config: WatchConfig
) -> dict[str, Any]:
    """Both versions at their own ``thresholds`` (before, after), and at ``RECALL``.

    There it is, of the thresholds with at least that recall, the one with the fewest false alarms (None: no threshold
    has it).
    """
    own = [point(w, truth, on, config) for w, on in zip((before, after), thresholds, strict=True)]
    curves = [sorted({*curve(w, truth, config), p}, key=_order) for w, p in zip((before, after), own, strict=True)]
    equal = [_at(one, RECALL) for one in curves]
    return {
        "recordings": len(before), "camera_hours": round(own[0].hours, 4), "acts": own[0].acts,
        "recall": RECALL,
        "better": equal[1] is not None and equal[0] is not None and equal[1].false_alarms < equal[0].false_alarms,
        **{
            name: {"own": _row(own[i]), "equal": _row(equal[i]), "curve": [_row(one) for one in curves[i]]}
            for i, name in enumerate(NAMES)
        },
    }  # fmt: skip


def _at(points: Sequence[Point], recall: float) -> Point | None:
    enough = [one for one in points if one.recall >= recall - 1e-9]
    return min(enough, key=lambda one: (one.false_alarms, -one.threshold), default=None)


def _order(one: Point) -> tuple[float, float]:
    return -one.threshold, one.per_hour


def _row(one: Point | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {k: round(v, 4) for k, v in {**asdict(one), "recall": one.recall, "per_hour": one.per_hour}.items()}


def said(result: Mapping[str, Any]) -> list[str]:
    """The figures as lines for people."""
    lines = [f"{'':<42}{'false alarms':>14}{'per camera-hour':>17}{'acts found':>14}{'recall':>9}"]
    for kind, words in (("own", "at its own threshold"), ("equal", f"at a recall of {RECALL:.0%}")):
        for name, version in (("before", "first version"), ("after", "new version")):
            row = result[name][kind]
            if row is None:
                lines.append(f"{f'{version}, {words}':<42}  never has that recall")
                continue
            found = f"{row['found']} of {row['acts']}"
            figures = f"{row['false_alarms']:>14}{row['per_hour']:>17.0f}{found:>14}{row['recall']:>9.0%}"
            lines.append(f"{f'{version}, {words}':<42}{figures}")
    return lines


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Left: false alarms per camera-hour of both versions; right: against recall, at every threshold."""
    colours = {"before": GREY, "after": BLUE}
    with styled() as plt:
        figure, (bars, lines) = plt.subplots(1, 2, figsize=(9.6, 4.0), layout="constrained")
        for i, kind in enumerate(("own", "equal")):
            for j, name in enumerate(NAMES):
                row = result[name][kind]
                if row is None:
                    continue
                x = i + (j - 0.5) * 0.38
                bars.bar(x, row["per_hour"], 0.34, color=colours[name], label=NAMES[name] if not i else None)
                text = f"{row['per_hour']:.0f}\n{row['recall']:.0%}"
                bars.annotate(text, (x, row["per_hour"]), (0, 3), textcoords="offset points", ha="center", fontsize=9)
        bars.set_xticks((0, 1), ("each at its own\nthreshold", f"both at a recall\nof {RECALL:.0%} or more"))
        bars.margins(y=0.25)
        bars.set_title("False alarms, and recall below")
        bars.set_ylabel("false alarms per camera-hour")
        bars.legend(frameon=False, fontsize=8, loc="upper right")
        for name, words in NAMES.items():
            rows = sorted(result[name]["curve"], key=lambda row: (row["recall"], row["per_hour"]))
            best = [min(r["per_hour"] for r in rows if r["recall"] >= row["recall"]) for row in rows]
            lines.step([100 * r["recall"] for r in rows], best, where="pre", color=colours[name], lw=2.2, label=words)
            own = result[name]["own"]
            lines.plot(100 * own["recall"], own["per_hour"], "o", color=colours[name], ms=8, mec=INK)
        lines.axvline(100 * result["recall"], color=ORANGE, lw=1.2, ls=":")
        lines.set(xlabel="acts found (%)", title="At every threshold", ylim=(0, None), xlim=(0, 103))
        lines.grid(alpha=0.2)
        minutes = f"{60 * result['camera_hours']:.0f} minutes of {result['recordings']} unseen cameras"
        figure.supxlabel(f"{result['acts']} acts in {minutes}; dots: own thresholds", fontsize=8, color=GREY)
        write_figure(plt, figure, path)
