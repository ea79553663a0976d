"""The plots of an evaluation: learning curves, confusion matrix, ROC curve; and the style that all plots share."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.files import atomic
from posewatch.progress import say

INK, BLUE, ORANGE, GREY = "#1f2933", "#2563eb", "#d97706", "#9aa5b1"
CELLS, NAMED = 25, 60
"""A confusion matrix of more classes shows colours only, no numbers; and the names of at most so many."""
FONTS = ("Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans KR", "NanumGothic", "NanumBarunGothic", "Malgun Gothic")
"""Fonts with Korean letters (the first has them under the second name, too), which matplotlib's own one lacks."""


@contextlib.contextmanager
def styled() -> Iterator[Any]:
    """pyplot without a display, in the style of posewatch's plots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import font_manager
    from matplotlib import pyplot as plt

    # It tells of each weight that a font lacks; the nearest one will do.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    installed = {font.name for font in font_manager.fontManager.ttflist}
    style: dict[Any, Any] = {
        "font.family": ["sans-serif", *(name for name in FONTS if name in installed)],
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "figure.dpi": 120,
    }
    with plt.rc_context(style):
        yield plt


def write_figure(plt: Any, figure: Any, path: Path) -> Path:
    """Save a figure as PNG and close it; equal figures give equal bytes. Letters that no font has are told, once a
    figure and not once a letter as matplotlib does."""
    with atomic(path) as partial, warnings.catch_warnings(record=True) as told:
        warnings.filterwarnings("always", message="Glyph .* missing from font")
        # No software version in the file.
        figure.savefig(partial, format="png", metadata={"Software": None})
    plt.close(figure)
    lacking = [w for w in told if str(w.message).startswith("Glyph")]
    for other in (w for w in told if w not in lacking):
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    if lacking:
        say(f"posewatch: note: {path.name} has boxes for letters that no font here has (Korean: install fonts-nanum)")
    return path


def plots(metrics: dict[str, Any], history: list[dict[str, Any]], out: Path) -> list[Path]:
    """Write ``learning_curves.png``, ``confusion_matrix.png``, ``roc.png``, ``reliability.png`` and
    ``risk_coverage.png`` to ``out``; returns their paths.

    ``metrics`` come from ``evaluate``. Without ``history`` there are no learning curves; without a positive class, or
    with test clips of one class only, no ROC curve; with those no reliability either.
    """
    written = []
    with styled() as plt:
        if history:
            written.append(write_figure(plt, _learning_curves(plt, history), out / "learning_curves.png"))
        written.append(write_figure(plt, _confusion(plt, metrics), out / "confusion_matrix.png"))
        if metrics["roc"]["fpr"]:
            written.append(write_figure(plt, _roc(plt, metrics), out / "roc.png"))
        if metrics.get("reliability") and metrics["auc"] is not None:
            written.append(write_figure(plt, _reliability(plt, metrics), out / "reliability.png"))
        if metrics.get("abstention"):
            written.append(write_figure(plt, _abstention(plt, metrics), out / "risk_coverage.png"))
    return written


def _learning_curves(plt: Any, history: list[dict[str, Any]]) -> Any:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, what, title in ((axes[0], "loss", "Loss"), (axes[1], "accuracy", "Accuracy")):
        for side, colour, name in (
            ("train", BLUE, "training (augmented)"),
            ("val", ORANGE, "validation (weights to keep)"),
        ):
            rows = [(r["epoch"], r[f"{side}_{what}"]) for r in history if f"{side}_{what}" in r]
            if rows:
                axis.plot(*zip(*rows, strict=True), color=colour, label=name, lw=2, marker="o", ms=2.5)
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.grid(axis="y", color=GREY, alpha=0.25)
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(0, 1.02)
    axes[1].legend(frameon=False, loc="lower right")
    return figure


def _confusion(plt: Any, metrics: dict[str, Any]) -> Any:
    matrix, labels = np.array(metrics["confusion_matrix"]), metrics["labels"]
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = min(max(3.6, 0.8 * len(labels) + 2), 14)
    figure, axis = plt.subplots(figsize=(side, side * 0.92), layout="constrained")
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in zip(*np.nonzero(matrix) if len(labels) > 4 else np.indices(matrix.shape).reshape(2, -1), strict=True):
        if len(labels) <= CELLS:
            colour = "white" if share[i, j] > 0.55 else INK
            axis.text(j, i, f"{matrix[i, j]}\n{share[i, j]:.0%}", ha="center", va="center", color=colour)
    size = 10 if len(labels) <= CELLS else 5
    turned = {} if len(labels) < 4 else {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    step = -(-len(labels) // NAMED)
    axis.set_xticks(range(0, len(labels), step), labels[::step], fontsize=size, **turned)
    axis.set_yticks(range(0, len(labels), step), labels[::step], fontsize=size)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    axis.set_title(f"{metrics['n']} test clips")
    return figure


def _roc(plt: Any, metrics: dict[str, Any]) -> Any:
    curve = metrics["roc"]
    figure, axis = plt.subplots(figsize=(4.2, 3.9), layout="constrained")
    axis.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="chance")
    axis.plot(curve["fpr"], curve["tpr"], color=BLUE, lw=2.2, label=f"model, AUC {metrics['auc']:.3f}")
    axis.fill_between(curve["fpr"], curve["tpr"], color=BLUE, alpha=0.08, lw=0)
    positive = metrics["labels"].index(metrics["positive"])
    negatives = np.delete(np.array(metrics["confusion_matrix"]), positive, 0)
    fpr = negatives[:, positive].sum() / max(1, negatives.sum())
    point = "predictions" if metrics["threshold"] is None else f"threshold {metrics['threshold']:.2f}"
    axis.plot([fpr], [metrics["recall"]], "o", color=ORANGE, ms=7, label=point, zorder=3)
    axis.set_xlabel("false positive rate")
    axis.set_ylabel(f"true positive rate ({metrics['positive']})")
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)
    axis.set_title("ROC")
    axis.legend(frameon=False, loc="lower right")
    return figure


def _reliability(plt: Any, metrics: dict[str, Any]) -> Any:
    rows = metrics["reliability"]
    figure, axis = plt.subplots(figsize=(4.2, 3.9), layout="constrained")
    axis.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="as sure as right")
    x, y = [r["confidence"] for r in rows], [r["frequency"] for r in rows]
    axis.plot(x, y, color=BLUE, lw=2, label=f"model, error {metrics['ece']:.3f}")
    axis.scatter(x, y, [20 + 180 * r["clips"] / metrics["n"] for r in rows], color=BLUE, zorder=3)
    what = f"probability of {metrics['positive']}" if metrics["positive"] else "probability of the likeliest class"
    axis.set_xlabel(what)
    axis.set_ylabel("how often it is true")
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)
    axis.set_title("Reliability")
    axis.legend(frameon=False, loc="upper left")
    return figure


def _abstention(plt: Any, metrics: dict[str, Any]) -> Any:
    rows = metrics["abstention"]
    names = {"doubt": (GREY, "the least sure left out"), "novelty": (BLUE, "the strangest left out")}
    figure, axis = plt.subplots(figsize=(4.2, 3.9), layout="constrained")
    for name, risks in rows["curves"].items():
        colour, text = names[name]
        axis.plot(rows["coverage"], risks, color=colour, lw=2, label=text)
    axis.set_xlim(0.48, 1.01)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("share of the clips that get an answer")
    axis.set_ylabel("wrong answers among them")
    axis.set_title("Risk and coverage")
    axis.legend(frameon=False, loc="upper left")
    return figure
