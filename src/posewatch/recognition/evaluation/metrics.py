"""The metrics of an evaluation, by scikit-learn, and intervals that show how far chance alone could have moved them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

ROUNDS, FEWEST = 1000, 100
"""Bootstrap resamples; an interval's ends then repeat to about half a point from one seed to another."""
PAIRS = 2e11
"""Pairs of test clips that are compared in all resamples together, some ten seconds: more than 14,000 clips are
resampled less often, `FEWEST` times at least."""
BLOCK = 20_000_000
"""Pairs that are compared at once, which bounds the memory."""


def areas(p: NDArray[Any], labels: NDArray[Any], times: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """(K, R): the area under the ROC curve of each class against the rest; NaN for a class with clips on one side only.

    ``p`` (N, K) are scores, ``labels`` (N,) the true classes, ``times`` (N, R) how often each clip counts in each of R
    resamples (default: once in one). The area is the share of pairs, one clip of the class and one of the others, in
    the right order. The time does not depend on K.
    """
    n, classes = p.shape
    counts = np.ones((n, 1), np.float32) if times is None else times.astype(np.float32)
    support = _sums(labels, counts, classes)
    ordered = np.zeros_like(support)
    size = max(1, BLOCK // max(n, 1))
    for start in range(0, n, size):
        own = labels[start : start + size]
        scores, mine = p[:, own].T, p[np.arange(start, start + len(own)), own][:, None]
        below = (scores < mine).astype(np.float32) + np.float32(0.5) * (scores == mine)
        below[own[:, None] == labels] = 0
        ordered += _sums(own, counts[start : start + size] * (below @ counts), classes)
    pairs = support * (counts.sum(0, dtype=np.float64) - support)
    return np.divide(ordered, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)


def _sums(groups: NDArray[Any], values: NDArray[Any], count: int) -> NDArray[np.float64]:
    """(N,) groups and (N, R) values → (count, R): the sum of the values of each group."""
    table = csr_array((np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=(count, len(groups)))
    return np.asarray(table @ values.astype(np.float64))


def class_areas(p: NDArray[Any], labels: NDArray[Any]) -> list[float | None]:
    """Area under the ROC curve of each class of ``p`` (N, K); None where ``labels`` (N,) has clips on one side only."""
    return [None if np.isnan(a) else round(float(a), 6) for a in areas(p, labels)[:, 0]]


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
    by_class = class_areas(p, labels)
    known = [a for a in (by_class if positive is None else [by_class[positive]]) if a is not None]
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

    Clips are drawn with replacement ``rounds`` times (large sets less often, see `PAIRS`), and the middle 95 % taken.
    Clips of one video resemble each other, so for a test set of few videos the true interval is wider. None where the
    metric is not defined.
    """
    n, classes = p.shape
    if not n:
        return {"f1_interval": None, "auc_interval": None}
    rounds = min(rounds, max(FEWEST, int(PAIRS / n**2)))
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), rounds).T
    hit = predicted == labels
    both, area = _sums(labels[hit], times[hit], classes), areas(p, labels, times)
    either = _sums(labels, times, classes) + _sums(predicted, times, classes)
    if positive is not None:
        both, either, area = both[[positive]], either[[positive]], area[[positive]]
    f1 = (2 * both / np.maximum(either, 1)).sum(0) / np.maximum((either > 0).sum(0), 1)
    means = np.nanmean(area[:, ~np.isnan(area).all(0)], 0)

    def middle(values: NDArray[np.float64]) -> list[float] | None:
        return [round(float(v), 6) for v in np.quantile(values, [0.025, 0.975])] if len(values) else None

    return {"f1_interval": middle(f1), "auc_interval": middle(means)}
