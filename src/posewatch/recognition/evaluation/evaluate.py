"""How good a recogniser is on clips that training did not see, always beside two classical baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.clipset import ClipSet
from posewatch.errors import InputError, LabelError
from posewatch.recognition.evaluation.baselines import NAMES, baseline_scores
from posewatch.recognition.evaluation.metrics import auc, bootstrap, confusion, measure, ratio, wilson
from posewatch.recognition.evaluation.plots import plots
from posewatch.recognition.recogniser import Recogniser
from posewatch.recognition.sampling import resample

__all__ = ["auc", "check", "decisions", "evaluate", "plots", "roc", "scores_of"]


def scores_of(recogniser: Recogniser, clips: ClipSet) -> NDArray[np.float32]:
    """Probabilities (N, K) of a clip set. Raises InputError for another joint layout or a network that answers NaN."""
    if len(clips) and clips.keypoints[0].shape[2] != recogniser.layout.observed:
        raise InputError(
            f"the clips have {clips.keypoints[0].shape[2]} joints, the model's layout {recogniser.layout.name!r} "
            f"wants {recogniser.layout.observed} (evaluate on skeletons of the layout it was trained on)"
        )
    p = recogniser.score(clips)
    if not np.isfinite(p).all():
        raise InputError("the model answers NaN: its training diverged (train it again with a lower train.lr)")
    return p


def check(recogniser: Recogniser, test_set: ClipSet, positive: str | None = None) -> str:
    """The positive class to measure, "" for none. Raises InputError or LabelError for what cannot be measured."""
    positive = recogniser.positive if positive is None else positive
    if not len(test_set):
        raise InputError("there is no test clip to evaluate on (raise dataset.test, or label clips of more videos)")
    if test_set.classes != recogniser.labels:
        raise LabelError(
            f"the test clips' classes ({', '.join(test_set.classes)}) "
            f"are not the model's ({', '.join(recogniser.labels)})"
        )
    if positive and positive not in recogniser.labels:
        raise LabelError(f"the positive class {positive!r} is none of {', '.join(recogniser.labels)}")
    return positive


def decisions(recogniser: Recogniser, p: NDArray[np.float32], positive: str) -> NDArray[np.int64]:
    """Probabilities (N, K) → classes (N,): the recogniser's own rule; without a positive class the likeliest."""
    return recogniser.decide(p) if positive else p.argmax(1).astype(np.int64)


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

    ``positive`` defaults to the recogniser's own; precision, recall, F1 and AUC are that class's. Where it is "", a
    clip is what its likeliest class says, those four are means over the classes (``measures.measure``), ``threshold``
    is None and ``roc`` empty. With ``train_set`` the baselines are fitted on it, too; else their figures are None.
    ``auc`` is None, and ``note`` says why, when the test clips are all of one side. Raises InputError, LabelError.
    """
    positive = check(recogniser, test_set, positive)
    labels, names, k = test_set.labels, recogniser.labels, len(recogniser.labels)
    index = names.index(positive) if positive else None
    p = scores_of(recogniser, test_set)
    called = decisions(recogniser, p, positive)
    matrix = confusion(labels, called, k)
    hits, said, real = matrix.diagonal(), matrix.sum(0), matrix.sum(1)
    metrics: dict[str, Any] = {
        "n": len(test_set),
        **measure(p, called, labels, index),
        "accuracy_interval": wilson(int(hits.sum()), len(test_set)),
        **bootstrap(p, called, labels, index),
        "threshold": recogniser.threshold if positive and positive == recogniser.positive else None,
        "positive": positive,
        "labels": list(names),
        "per_class": {
            name: {
                "precision": ratio(hits[i], said[i]),
                "recall": ratio(hits[i], real[i]),
                "f1": ratio(2 * hits[i], said[i] + real[i]),
                "auc": auc(p[:, i], labels == i),
                "support": int(real[i]),
            }
            for i, name in enumerate(names)
        },
        "confusion_matrix": matrix.tolist(),
        "roc": roc(np.zeros(0), np.zeros(0, bool)) if index is None else roc(p[:, index], labels == index),
    }
    note = _note(metrics, real)
    if note:
        metrics["note"] = note
    found = _baselines(recogniser, test_set, train_set)
    for name in NAMES:
        s = found.get(name)
        own = measure(s, s.argmax(1), labels, index) if s is not None else {}
        for what in ("accuracy", "precision", "recall", "f1", "auc"):
            metrics[f"baseline_{name}_{what}"] = own.get(what)
    return metrics


def _baselines(recogniser: Recogniser, test_set: ClipSet, train_set: ClipSet | None) -> dict[str, NDArray[np.float64]]:
    if train_set is None or not len(train_set):
        return {}
    frames, people = recogniser.frames, recogniser.people
    return baseline_scores(
        resample(train_set.keypoints, frames, people),
        train_set.labels,
        resample(test_set.keypoints, frames, people),
        len(recogniser.labels),
        recogniser.layout,
    )


def _note(metrics: dict[str, Any], real: NDArray[np.int64]) -> str:
    """Why a figure is missing, or is not of all classes."""
    n, positive, labels = metrics["n"], metrics["positive"], metrics["labels"]
    if metrics["auc"] is None and positive:
        only = positive if real[labels.index(positive)] else f"other than {positive}"
        return f"all {n} test clips are {only}: AUC and ROC need both"
    if metrics["auc"] is None:
        return f"all {n} test clips are {labels[int(real.argmax())]}: AUC needs another class"
    if not positive and not real.all():
        absent = ", ".join(name for name, count in zip(labels, real, strict=True) if not count)
        return f"no test clip of {absent}: AUC is the mean over the other classes"
    return ""
