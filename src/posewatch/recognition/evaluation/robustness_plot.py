"""The plot of a robustness report: one panel per corruption, all on the same scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posewatch.recognition.evaluation.plots import BLUE, GREY, INK, ORANGE, styled, write_figure

_CURVES = (
    ("joints_dropped", "Joints dropped", "proportion of joints, drawn for each frame"),
    ("joints_occluded", "Joints occluded", "proportion of joints, drawn for the clip"),
    ("frames_dropped", "Frames dropped", "proportion of frames"),
    ("jitter", "Joints jittered", "standard deviation in body sizes"),
)


def plot(report: dict[str, Any], path: Path) -> Path:
    """Draw a report of ``robustness`` to a PNG."""
    with styled() as plt:
        figure, grid = plt.subplots(2, 3, figsize=(10.5, 6.2), sharey=True, layout="constrained")
        axes = list(grid.flat)
        for axis, (kind, title, label) in zip(axes[:4], _CURVES, strict=True):
            _curve(axis, report[kind], title, label)
        hidden = report["body_part_hidden"]
        names = [row["part"].replace("_", "\n") for row in hidden]
        _bars(axes[4], "One body part hidden", names, hidden, report["clean"]["f1"])
        removed = [row for row in report["person_removed"] if row["n"]]
        names = [row["person"].replace("_", " ") for row in removed]
        _bars(axes[5], "One person removed", names, removed, removed[0]["clean_f1"] if removed else None)
        if not removed:
            axes[5].text(0.5, 0.5, "no clip has several persons", transform=axes[5].transAxes, ha="center", color=GREY)
        elif removed[0]["skipped"]:
            axes[5].set_xlabel(f"{removed[0]['n']} clips with several persons (of {report['n']})")
        # From 0, so that the curves of a broken model are visible, too.
        axes[0].set_ylim(0, 1.03)
        for axis in (axes[0], axes[3]):
            axis.set_ylabel("F1, AUC")
        handles, labels = axes[0].get_legend_handles_labels()
        of = f"F1 and AUC of class {report['positive']}" if report["positive"] else "means over the classes"
        figure.legend(
            handles, labels, loc="outside lower center", ncols=len(labels), frameon=False,
            title=f"{report['n']} test clips, {report['draws']} draws each; {of}",
        )  # fmt: skip
        return write_figure(plt, figure, path)


def _curve(axis: Any, rows: list[dict[str, Any]], title: str, label: str) -> None:
    x = [row["level"] for row in rows]
    if all(row["forest_f1"] is not None for row in rows):
        axis.plot(x, [row["forest_f1"] for row in rows], color=GREY, lw=1.2, label="random forest, F1")
    if all(row["auc"] is not None for row in rows):
        axis.plot(x, [row["auc"] for row in rows], color=ORANGE, lw=1.6, ls="--", label="model, AUC")
    f1, sd = [row["f1"] for row in rows], [row["f1_sd"] for row in rows]
    low, high = [f - s for f, s in zip(f1, sd, strict=True)], [f + s for f, s in zip(f1, sd, strict=True)]
    axis.fill_between(x, low, high, color=BLUE, alpha=0.15, lw=0)
    axis.plot(x, f1, color=BLUE, lw=2.2, marker="o", ms=3, label="model, F1")
    axis.set_title(title)
    axis.set_xlabel(label)
    axis.grid(axis="y", color=GREY, alpha=0.25)


def _bars(axis: Any, title: str, names: list[str], rows: list[dict[str, Any]], clean: float | None) -> None:
    axis.set_title(title)
    axis.grid(axis="y", color=GREY, alpha=0.25)
    axis.set_axisbelow(True)
    if clean is not None:
        axis.axhline(clean, color=INK, lw=0.8, ls=":")
        axis.annotate("clean", (1, clean), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    axis.bar(range(len(rows)), [row["f1"] for row in rows], width=0.62, color=BLUE)
    for i, row in enumerate(rows):
        # In the bar, or above one that is too short for it.
        y, colour = (0.03, "white") if row["f1"] > 0.12 else (row["f1"] + 0.02, INK)
        axis.text(i, y, f"{row['f1']:.2f}".lstrip("0"), ha="center", va="bottom", color=colour, fontsize=8)
        if row["auc"] is not None:
            axis.plot([i - 0.31, i + 0.31], [row["auc"]] * 2, color=ORANGE, lw=2)
        if row["forest_f1"] is not None:
            axis.plot([i - 0.31, i + 0.31], [row["forest_f1"]] * 2, color=GREY, lw=1.6)
    axis.set_xticks(range(len(names)), names, fontsize=8)
    axis.tick_params(axis="x", length=0)
