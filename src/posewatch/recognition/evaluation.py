"""How good a recogniser is on clips that training did not see, always beside two classical baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, LabelError
from posewatch.recognition.baselines import baseline_scores
from posewatch.recognition.dataset import ClipSet, resample
from posewatch.recognition.recogniser import Recogniser


def _ratio(a: float, b: float) -> float:
    return round(a / b, 6) if b else 0.0


def auc(scores: NDArray[Any], truth: NDArray[Any]) -> float | None:
    """Area under the ROC curve; None when ``truth`` (N,) holds one class only."""
    from sklearn.metrics import roc_auc_score

    if not len(truth) or truth.all() or not truth.any():
        return None
    return round(float(roc_auc_score(truth, scores)), 6)


def roc(scores: NDArray[Any], truth: NDArray[Any]) -> dict[str, list[float]]:
    """The ROC curve from (0, 0) to (1, 1) with finite thresholds in [0, 1]; empty lists for a single class."""
    from sklearn.metrics import roc_curve

    if auc(scores, truth) is None:
        return {"fpr": [], "tpr": [], "thresholds": []}
    fpr, tpr, thresholds = roc_curve(truth, scores)
    # scikit-learn starts at an infinite threshold, which JSON and pipeline engines cannot hold.
    thresholds = np.clip(thresholds, 0, 1)
    return {
        "fpr": [round(float(v), 6) for v in fpr],
        "tpr": [round(float(v), 6) for v in tpr],
        "thresholds": [round(float(v), 6) for v in thresholds],
    }


def evaluate(
    recogniser: Recogniser, test_set: ClipSet, positive: str | None = None, *, train_set: ClipSet | None = None
) -> dict[str, Any]:
    """Measure on ``test_set``; JSON-able.

    ``positive`` defaults to the recogniser's own. With ``train_set`` the baselines are fitted on it, too. ``auc`` is
    None, and ``note`` says why, when the test clips are all positive or all negative. Raises InputError, LabelError.
    """
    positive = positive or recogniser.positive
    if not len(test_set):
        raise InputError("there is no test clip to evaluate on (raise dataset.test, or label clips of more videos)")
    if test_set.classes != recogniser.labels:
        raise LabelError(
            f"the test clips' classes ({', '.join(test_set.classes)}) "
            f"are not the model's ({', '.join(recogniser.labels)})"
        )
    if positive not in recogniser.labels:
        raise LabelError(f"the positive class {positive!r} is none of {', '.join(recogniser.labels)}")
    index, k = recogniser.labels.index(positive), len(recogniser.labels)
    clips = resample(test_set.keypoints, recogniser.frames, recogniser.people)
    p = recogniser.probabilities(clips)
    called = recogniser.decide(p)
    truth, scores = test_set.labels == index, p[:, index]
    matrix = np.zeros((k, k), int)
    np.add.at(matrix, (test_set.labels, called), 1)
    per_class = {}
    for i, name in enumerate(recogniser.labels):
        hit, said, real = int(matrix[i, i]), int(matrix[:, i].sum()), int(matrix[i].sum())
        per_class[name] = {
            "precision": _ratio(hit, said),
            "recall": _ratio(hit, real),
            "f1": _ratio(2 * hit, said + real),
            "support": real,
        }
    own = per_class[positive]
    metrics: dict[str, Any] = {
        "n": len(test_set),
        "accuracy": _ratio(int(matrix.trace()), len(test_set)),
        "precision": own["precision"],
        "recall": own["recall"],
        "f1": own["f1"],
        "auc": auc(scores, truth),
        "threshold": recogniser.threshold,
        "positive": positive,
        "labels": list(recogniser.labels),
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
        "roc": roc(scores, truth),
    }
    if metrics["auc"] is None:
        only = positive if truth.all() else f"other than {positive}"
        metrics["note"] = f"all {len(truth)} test clips are {only}: AUC and ROC need both"
    if train_set is not None and len(train_set):
        train_clips = resample(train_set.keypoints, recogniser.frames, recogniser.people)
        found = baseline_scores(train_clips, train_set.labels == index, clips, recogniser.layout)
        for name, s in found.items():
            hit = int(((s >= 0.5) & truth).sum())
            metrics[f"baseline_{name}_accuracy"] = _ratio(int(((s >= 0.5) == truth).sum()), len(truth))
            metrics[f"baseline_{name}_precision"] = _ratio(hit, int((s >= 0.5).sum()))
            metrics[f"baseline_{name}_recall"] = _ratio(hit, int(truth.sum()))
            metrics[f"baseline_{name}_f1"] = _ratio(2 * hit, int((s >= 0.5).sum() + truth.sum()))
            metrics[f"baseline_{name}_auc"] = auc(s, truth)
    return metrics


INK, BLUE, ORANGE, GREY = "#1f2933", "#2563eb", "#d97706", "#9aa5b1"


def plots(metrics: dict[str, Any], history: list[dict[str, Any]], out: Path) -> list[Path]:
    """Write ``learning_curves.png``, ``confusion_matrix.png`` and ``roc.png`` to ``out``; returns the paths written.

    Without history there are no learning curves, without both classes in the test there is no ROC curve.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    style: dict[Any, Any] = {
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
    out.mkdir(parents=True, exist_ok=True)
    written = []

    def write(figure: Any, name: str) -> None:
        # No software version in the file: equal metrics give equal bytes.
        figure.savefig(out / name, metadata={"Software": None})
        plt.close(figure)
        written.append(out / name)

    with plt.rc_context(style):
        if history:
            write(_learning_curves(plt, history), "learning_curves.png")
        write(_confusion(plt, metrics), "confusion_matrix.png")
        if metrics["roc"]["fpr"]:
            write(_roc(plt, metrics), "roc.png")
    return written


def _learning_curves(plt: Any, history: list[dict[str, Any]]) -> Any:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, what, title in ((axes[0], "loss", "Loss"), (axes[1], "accuracy", "Accuracy")):
        for side, colour, name in (("train", BLUE, "training (augmented)"), ("val", ORANGE, "validation")):
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
    side = max(3.6, 0.8 * len(labels) + 2)
    figure, axis = plt.subplots(figsize=(side, side * 0.92), layout="constrained")
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i in range(len(labels)):
        for j in range(len(labels)):
            colour = "white" if share[i, j] > 0.55 else INK
            text = f"{matrix[i, j]}\n{share[i, j]:.0%}"
            axis.text(j, i, text, ha="center", va="center", color=colour)
    axis.set_xticks(range(len(labels)), labels, rotation=0 if len(labels) < 4 else 40)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_xlabel("called")
    axis.set_ylabel("labelled")
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
    labels = metrics["labels"]
    positive = labels.index(metrics["positive"])
    matrix = np.array(metrics["confusion_matrix"])
    rest = np.delete(matrix, positive, 0)
    fpr = rest[:, positive].sum() / max(1, rest.sum())
    at = f"threshold {metrics['threshold']:.2f}"
    axis.plot([fpr], [metrics["recall"]], "o", color=ORANGE, ms=7, label=at, zorder=3)
    axis.set_xlabel("false alarms, share of the others")
    axis.set_ylabel(f"found, share of {metrics['positive']}")
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)
    axis.set_title("ROC")
    axis.legend(frameon=False, loc="lower right")
    return figure
