"""What ``bench.loop`` measured, as a table and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.recognition.evaluation.plots import BLUE, GREY, ORANGE, styled, write_figure

ARMS = (
    ("verdicts", BLUE, "verdicts on alarms"),
    ("mixed", ORANGE, "and on near misses, samples"),
    ("random", GREY, "random windows"),
)
KINDS = (("judged", "the judged cameras, later"), ("others", "cameras that nobody judged"))


def summary(rows: Sequence[dict[str, Any]], counts: Sequence[int]) -> list[dict[str, Any]]:
    """For each number of first labels, arm and number of ``counts``: mean and deviation over the seeds of the false
    alarms per hour at equal recall, and of their share of those of the first model."""
    found = []
    for start in sorted({row["start"] for row in rows}):
        for arm, _, _ in ARMS:
            by_seed: dict[int, list[dict[str, Any]]] = {}
            for row in rows:
                if (row["start"], row["arm"]) == (start, arm):
                    by_seed.setdefault(row["seed"], []).append(row)
            for place, count in enumerate(counts):
                one: dict[str, Any] = {"start": start, "arm": arm, "labels": count, "seeds": len(by_seed)}
                for kind, _ in KINDS:
                    key = f"{kind}_false_per_hour"
                    values = np.array([series[place][key] for series in by_seed.values()])
                    shares = values / np.array([max(series[0][key], 1e-9) for series in by_seed.values()])
                    one[key], one[f"{key}_std"] = round(float(values.mean()), 1), round(float(values.std()), 1)
                    one[f"{kind}_share"] = round(float(shares.mean()), 3)
                    one[f"{kind}_share_std"] = round(float(shares.std()), 3)
                found.append(one)
    return found


def table(result: dict[str, Any]) -> str:
    """The summary for people."""
    about = result["about"]
    lines = [
        f"false alarms per hour of windows at a recall of {about['recall']:g}, {about['file']}, mean of seeds",
        f"{'first labels':>12}  {'then':<28}{'labels':>7}{'judged cameras':>22}{'other cameras':>22}",
    ]
    names = {arm: name for arm, _, name in ARMS}
    for row in result["summary"]:
        cells = [
            f"{row[key]:.0f} ± {row[f'{key}_std']:.0f} ({row[f'{kind}_share']:.0%})"
            for kind, _ in KINDS
            for key in [f"{kind}_false_per_hour"]
        ]
        lines.append(
            f"{row['start']:>12}  {names[row['arm']]:<28}{row['labels']:>7}" + "".join(f"{cell:>22}" for cell in cells)
        )
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> None:
    """False alarms against verdicts, beside random labels, for the judged and for other cameras."""
    starts = sorted({row["start"] for row in result["summary"]})
    with styled() as plt:
        figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained", sharey=True)
        for axis, (kind, title) in zip(axes, KINDS, strict=True):
            for style, start in zip(("-", "--", ":"), starts[:3], strict=False):
                for arm, colour, name in ARMS:
                    rows = [r for r in result["summary"] if (r["start"], r["arm"]) == (start, arm)]
                    x = np.array([r["labels"] for r in rows])
                    y = 100 * np.array([r[f"{kind}_share"] for r in rows])
                    std = 100 * np.array([r[f"{kind}_share_std"] for r in rows])
                    more = f", {start} first labels" if len(starts) > 1 else ""
                    axis.plot(x, y, style, color=colour, lw=2.2, marker="o", ms=4, label=name + more)
                    axis.fill_between(x, y - std, y + std, color=colour, alpha=0.1, lw=0)
            axis.axhline(50, color=GREY, lw=1, ls=":")
            axis.set(xlabel="labels", title=title)
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.2)
        axes[0].set_ylabel(f"false alarms at recall {result['about']['recall']:g} (% of before)")
        axes[1].legend(frameon=False, fontsize=8)
        write_figure(plt, figure, path)
