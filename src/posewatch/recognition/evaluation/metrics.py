"""The metrics of an evaluation, by scikit-learn, and intervals that show how far chance alone could have moved them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, rankdata
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, roc_auc_score

ROUNDS = 1000
"""Bootstrap resamples; an interval's ends then repeat to about half a point from one seed to another."""
CELLS = 2_000_000
"""Scores that are resampled at once, which bounds the memory for large test sets."""


def auc(scores: NDArray[Any], truth: NDArray[Any]) -> float | None:
    """Area under the ROC curve; None when ``truth`` (N,) holds one class only."""
    return round(float(roc_auc_score(truth, scores)), 6) if len(np.unique(truth)) == 2 else None


def metrics_of(
    p: NDArray[Any], predicted: NDArray[Any], labels: NDArray[Any], positive: int | None = None
) -> dict[str, float | None]:
    """Accuracy, precision, recall, F1 and AUC of probabilities (N, K) and predictions (N,) against ``labels`` (N,).

    With a ``positive`` class index the last four are that class's. Without one they are means over the classes (macro):
    precision, recall and F1 over the classes that are true or predicted for any clip, AUC (one against the rest) over
    those with clips on both sides. ``auc`` is None where no class has those.
    """
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=None if positive is None else [positive], average="macro", zero_division=0
    )
    areas = [auc(p[:, k], labels == k) for k in (np.unique(labels) if positive is None else [positive])]
    known = [a for a in areas if a is not None]
    return {
        "accuracy": round(float(accuracy_score(labels, predicted)), 6),
        "precision": round(float(precision), 6),
        "recall": round(float(recall), 6),
        "f1": round(float(f1), 6),
        "auc": round(float(np.mean(known)), 6) if known else None,
    }


def wilson(hits: int, n: int) -> list[float]:
    """The 95 % interval of a proportion (Wilson's score interval), [low, high]."""
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return [round(float(interval.low), 6), round(float(interval.high), 6)]


def bootstrap(
    p: NDArray[Any],
    predicted: NDArray[Any],
    labels: NDArray[Any],
    positive: int | None = None,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> dict[str, list[float] | None]:
    """95 % intervals of F1 and AUC as ``metrics_of`` computes them: ``f1_interval`` and ``auc_interval``, [low, high].

    Clips are drawn with replacement ``rounds`` times, and the middle 95 % taken. Clips of one video resemble each
    other, so for a test set of few videos the true interval is wider. None where the metric is not defined.
    """
    n = len(p)
    rng = np.random.default_rng(seed)
    classes = np.arange(p.shape[1]) if positive is None else np.array([positive])
    truth, chosen = labels[:, None] == classes, predicted[:, None] == classes
    block = max(1, min(100, CELLS // (n * len(classes))))
    f1: list[NDArray[np.float64]] = []
    areas: list[NDArray[np.float64]] = []
    for start in range(0, rounds, block):
        times = rng.multinomial(n, np.full(n, 1 / n), min(block, rounds - start))
        drawn = np.stack([np.repeat(np.arange(n), row) for row in times])
        t, c = truth[drawn], chosen[drawn]
        support = t.sum(1)
        either = support + c.sum(1)
        f1.append((2 * (t & c).sum(1) / np.maximum(either, 1)).sum(1) / np.maximum((either > 0).sum(1), 1))
        # The area is the share of pairs, one clip of the class and one of the others, in the right order: a rank sum.
        ranks = rankdata(p[drawn][..., classes], axis=1)
        pairs = support * (n - support)
        ordered = (ranks * t).sum(1) - support * (support + 1) / 2
        area = np.divide(ordered, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)
        areas.append(np.nanmean(area[(pairs > 0).any(1)], 1))

    def middle(values: list[NDArray[np.float64]]) -> list[float] | None:
        flat = np.concatenate(values)
        return [round(float(v), 6) for v in np.quantile(flat, [0.025, 0.975])] if len(flat) else None

    return {"f1_interval": middle(f1), "auc_interval": middle(areas)}
