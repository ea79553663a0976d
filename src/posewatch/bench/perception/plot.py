"""The figure of a quality report: mask IoU, background shown, OKS, and detection rates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.bench.perception.accuracy import UNOCCLUDED, FrameResult, PersonResult
from posewatch.recognition.evaluation.plots import BLUE, GREY, INK, ORANGE, styled, write_figure


def plot(rows: Sequence[PersonResult], frames: Sequence[FrameResult], report: dict[str, Any], path: Path) -> Path:
    """Draw four panels to a PNG."""
    clear = [r for r in rows if r.visibility >= UNOCCLUDED]
    with styled() as plt:
        figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), layout="constrained")
        axis = axes[0, 0]
        axis.hist([p.iou for p in frames], np.linspace(0, 1, 41), color=BLUE)
        axis.axvline(0.8, color=ORANGE, lw=1.5, ls="--")
        axis.set(title=f"Mask IoU per frame, mean {report['figures']['mask_iou']:.2f}", xlabel="IoU", ylabel="frames")
        axis = axes[0, 1]
        axis.hist([100 * p.leaked for p in frames], 40, color=BLUE)
        leaked = 100 * report["figures"]["background_leaked"]
        axis.set(title=f"Background shown, mean {leaked:.2f} %", xlabel="% of the background", ylabel="frames")
        axis = axes[1, 0]
        axis.hist([r.oks for r in clear], np.linspace(0, 1, 41), color=BLUE)
        pck = report["figures"]["pck_0.2_box"]
        axis.set(title=f"OKS of unoccluded persons; PCK@0.2 {pck:.2f}", xlabel="OKS", ylabel="persons")
        _bars(axes[1, 1], report)
        return write_figure(plt, figure, path)


def _bars(axis: Any, report: dict[str, Any]) -> None:
    names, values, counts = [], [], []
    for key, unit, scale in (("by_height", "px", 1), ("by_sight", "% visible", 100)):
        for row in report[key]:
            top = min(row["to"] * scale, 100) if scale == 100 else row["to"]
            low = f"{row['from'] * scale:.0f}"
            names.append(f"{low}-{top:.0f} {unit}" if top < 1000 else f"over {low} {unit}")
            values.append(row["detected"])
            counts.append(row["persons"])
    places = np.arange(len(names))[::-1]
    axis.barh(places, values, color=[BLUE if "px" in n else GREY for n in names])
    for place, value, count in zip(places, values, counts, strict=True):
        inside = value > 0.4
        at, side, colour = (value - 0.02, "right", "white") if inside else (value + 0.02, "left", INK)
        axis.text(at, place, f"{value:.2f} of {count}", va="center", ha=side, color=colour)
    axis.set_yticks(places, names)
    axis.set(title="Persons detected, by height and visibility", xlim=(0, 1))
