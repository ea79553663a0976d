"""The metrics of a recogniser on clips that training did not see, beside those of two classical baselines."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_curve

from posewatch.datasets.clipset import ClipSet
from posewatch.errors import InputError, LabelError
from posewatch.names import known_as, nfc
from posewatch.recognition.calibration import reliability
from posewatch.recognition.evaluation.abstention import abstention, doubt
from posewatch.recognition.evaluation.acts import acts_of, alarms_by_act
from posewatch.recognition.evaluation.baselines import NAMES, SECONDS, baseline_scores
from posewatch.recognition.evaluation.metrics import bootstrap, class_areas, metrics_of, wilson
from posewatch.recognition.recogniser import Recogniser
from posewatch.recognition.sampling import fitting
from posewatch.units import require_unit

LEAST_S = 5.0
"""What a baseline's fit may always take; more, up to `SECONDS`, where training the network took longer."""


def scores_of(recogniser: Recogniser, clips: ClipSet) -> NDArray[np.float32]:
    """Probabilities (N, K) of a clip set. Raises InputError for another joint layout or a network that returns NaN."""
    if len(clips) and (joints := clips.keypoints[0].shape[2] - clips.flow) != recogniser.layout.observed:
        raise InputError(
            f"the clips have {joints} joints, the model's layout {recogniser.layout.name!r} "
            f"wants {recogniser.layout.observed} (evaluate on skeletons of the layout it was trained on)"
        )
    p = recogniser.score(clips)
    if not np.isfinite(p).all():
        raise InputError("the model returns NaN: its training diverged (train it again with a lower train.lr)")
    return p


def check(recogniser: Recogniser, test_set: ClipSet, positive: str | None = None) -> str:
    """The positive class, "" for none. Raises InputError or LabelError where the test set does not fit the model."""
    positive = recogniser.positive if positive is None else known_as(positive, recogniser.labels) or positive
    if not len(test_set):
        raise InputError("there is no test clip (raise dataset.test, or label clips of more videos)")
    if [*map(nfc, test_set.classes)] != [*map(nfc, recogniser.labels)]:
        raise LabelError(
            f"the test clips' classes ({', '.join(test_set.classes)}) "
            f"are not the model's ({', '.join(recogniser.labels)})"
        )
    require_unit(recogniser.unit, test_set.unit, "the model", "the test set")
    test_set.require_pixels(recogniser.config.features)
    if positive and positive not in recogniser.labels:
        raise LabelError(f"the positive class {positive!r} is none of {', '.join(recogniser.labels)}")
    return positive


def decisions(recogniser: Recogniser, p: NDArray[np.float32], positive: str) -> NDArray[np.int64]:
    """Probabilities (N, K) → predicted classes (N,), by the recogniser's threshold; argmax for no positive class."""
    return recogniser.decide(p) if positive else p.argmax(1).astype(np.int64)


def roc(p: NDArray[Any], labels: NDArray[Any], positive: int | None) -> dict[str, list[float]]:
    """The ROC curve of class ``positive`` from (0, 0) to (1, 1), with finite thresholds in [0, 1].

    Empty lists without a positive class, or where all of ``labels`` are on one side.
    """
    if positive is None or len(np.unique(labels == positive)) < 2:
        return {"fpr": [], "tpr": [], "thresholds": []}
    fpr, tpr, thresholds = roc_curve(labels == positive, p[:, positive])
    # scikit-learn starts at an infinite threshold, which JSON and pipeline engines cannot hold.
    return {"fpr": _rounded(fpr), "tpr": _rounded(tpr), "thresholds": _rounded(thresholds.clip(0, 1))}


def _rounded(values: NDArray[Any]) -> list[float]:
    return values.astype(float).round(6).tolist()


def evaluate(
    recogniser: Recogniser, test_set: ClipSet, positive: str | None = None, *, train_set: ClipSet | None = None
) -> dict[str, Any]:
    """The metrics on ``test_set``, JSON-able.

    ``positive`` defaults to the recogniser's own class; precision, recall, F1 and AUC are that class's. Where it is "",
    the likeliest class is predicted, those four are means over the classes (``metrics.metrics_of``), ``threshold`` is
    None and ``roc`` empty. With ``train_set`` the baselines are fitted on it (``baseline_note`` says where time was too
    short for the whole fit); else their metrics are None. ``false_alarms_by_act`` and ``recall_by_act`` say what was
    done in the clips (``acts.alarms_by_act``), where that is known. ``ece`` and ``reliability`` say how true the
    probabilities are (``calibration.reliability``), ``abstention`` what goes of the errors when doubted or strange
    clips get no answer, ``novelty`` how strange the clips are to a model that tells it. ``auc`` is None, and ``note``
    says why, when the test clips are all of one class. Raises InputError, LabelError.
    """
    positive = check(recogniser, test_set, positive)
    labels, names = test_set.labels, recogniser.labels
    index = names.index(positive) if positive else None
    began = time.monotonic()
    p = scores_of(recogniser, test_set)
    scoring_s = time.monotonic() - began
    predicted = decisions(recogniser, p, positive)
    matrix = confusion_matrix(labels, predicted, labels=range(len(names)))
    support = matrix.sum(1)
    columns = precision_recall_fscore_support(labels, predicted, labels=range(len(names)), zero_division=0)
    by_class = class_areas(p, labels)
    metrics: dict[str, Any] = {
        "n": len(test_set),
        **metrics_of(p, predicted, labels, index),
        "accuracy_interval": wilson(int(matrix.trace()), len(test_set)),
        **bootstrap(p, predicted, labels, index),
        "threshold": recogniser.threshold if positive and positive == recogniser.positive else None,
        "positive": positive,
        "labels": list(names),
        "per_class": {
            name: {
                **dict(zip(("precision", "recall", "f1"), _rounded(np.array(columns[:3])[:, k]), strict=True)),
                "auc": by_class[k],
                "support": int(support[k]),
            }
            for k, name in enumerate(names)
        },
        "confusion_matrix": matrix.tolist(),
        "roc": roc(p, labels, index),
    }
    error, bins = reliability(p, labels, index, balanced=recogniser.config.balance != "none")
    metrics |= {"ece": error, "reliability": bins, "temperature": recogniser.temperature}
    scores: dict[str, NDArray[Any]] = {"doubt": doubt(p, index, recogniser.threshold)}
    strange = recogniser.strangeness(test_set)
    if strange is not None:
        scores["novelty"] = strange
        metrics["novelty"] = {
            "median": round(float(np.median(strange)), 4),
            "above_1": round(float((strange > 1).mean()), 4),
        }
    metrics["abstention"] = abstention(scores, predicted != labels)
    if index is not None:
        metrics |= alarms_by_act(predicted == index, labels == index, acts_of(test_set))
    note = _note(metrics, support)
    if note:
        metrics["note"] = note
    fitted, cut = _baselines(recogniser, test_set, train_set, scoring_s)
    if cut:
        metrics["baseline_note"] = f"baselines were cut to save time ({cut})"
    for name in NAMES:
        s = fitted.get(name)
        own = {} if s is None else metrics_of(s, s.argmax(1), labels, index)
        for metric in ("accuracy", "precision", "recall", "f1", "auc"):
            metrics[f"baseline_{name}_{metric}"] = own.get(metric)
    return metrics


def _baselines(
    recogniser: Recogniser, test_set: ClipSet, train_set: ClipSet | None, scoring_s: float
) -> tuple[dict[str, NDArray[np.float64]], str]:
    """The baselines' scores and what was cut; both together take no longer than training the network took.

    A training step costs about three times the scoring of its clips, which took ``scoring_s`` for the test set.
    """
    if train_set is None or not len(train_set):
        return {}, ""
    training_s = 3 * scoring_s / len(test_set) * len(train_set) * recogniser.config.epochs
    return baseline_scores(
        fitting(train_set.keypoints, recogniser),
        train_set.labels,
        fitting(test_set.keypoints, recogniser),
        len(recogniser.labels),
        recogniser.layout,
        seconds=min(SECONDS, max(LEAST_S, training_s / 2)),
    )


def _note(metrics: dict[str, Any], support: NDArray[np.int64]) -> str:
    """Why AUC is missing, or is not the mean over all classes; else ""."""
    n, positive, labels = metrics["n"], metrics["positive"], metrics["labels"]
    if metrics["auc"] is None and positive:
        only = positive if support[labels.index(positive)] else f"other than {positive}"
        return f"all {n} test clips are {only}: AUC and ROC need both"
    if metrics["auc"] is None:
        return f"all {n} test clips are {labels[int(support.argmax())]}: AUC needs another class"
    if not positive and not support.all():
        absent = ", ".join(name for name, count in zip(labels, support, strict=True) if not count)
        return f"no test clip of {absent}: AUC is the mean over the other classes"
    return ""
