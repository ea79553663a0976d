"""The metrics of an evaluation, by scikit-learn, and intervals that show how far chance alone could have moved them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

ROUNDS, FEWEST = 1000, 100
"""Bootstrap resamples; an interval's ends then repeat to about half a point from one seed to another."""
SORTING = 100
"""Sorting a clip's score into those of its class costs as much as this many comparisons of two clips."""
PAIRS = 10**11
"""Comparisons in all resamples, some ten seconds: of many clips and classes there are fewer resamples."""
BLOCK = 20_000_000
"""Numbers that are held at once, which bounds the memory for large test sets."""


def areas(
    p: NDArray[Any], labels: NDArray[Any], classes: Sequence[int], times: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """(K, R): the area under the ROC curve of each of ``classes`` against the rest; NaN without clips on both sides.

    ``p`` (N, ...) are scores, ``labels`` (N,) the true classes, ``times`` (N, R) how often each clip counts in each of
    R resamples (default: once in one). The area is the share of pairs, one clip of the class and one of the others, in
    the right order.
    """
    counts = np.ones((len(p), 1), np.float32) if times is None else times.astype(np.float32)
    ordered = _by_pairs if times is not None and len(p) < SORTING * len(classes) else _by_order
    rows = []
    for k in classes:
        own = labels == k
        support = counts[own].sum(0, dtype=np.float64)
        pairs = support * (counts.sum(0, dtype=np.float64) - support)
        inside = ordered(p[:, k], own, counts)
        rows.append(np.divide(inside, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0))
    return np.array(rows).reshape(-1, counts.shape[1])


def _by_pairs(scores: NDArray[Any], own: NDArray[Any], counts: NDArray[np.float32]) -> NDArray[np.float64]:
    """How many pairs are in the right order, (R,), by comparing all: quick where few clips are of the class."""
    mine, others = scores[own][:, None], scores[~own]
    right = (others < mine).astype(np.float32) + np.float32(0.5) * (others == mine)
    return np.asarray((counts[own] * (right @ counts[~own])).sum(0, dtype=np.float64))


def _by_order(scores: NDArray[Any], own: NDArray[Any], counts: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same by sorting the scores: quick where there are many clips."""
    order = np.argsort(scores)
    scores, others, mine = scores[order], counts[order], own[order]
    others[mine] = 0
    below = np.concatenate([np.zeros((1, counts.shape[1]), np.float32), others.cumsum(0)])
    first, last = np.searchsorted(scores, scores[mine]), np.searchsorted(scores, scores[mine], "right")
    return np.asarray((counts[order][mine] * (below[first] + below[last])).sum(0, dtype=np.float64)) / 2


def _sums(groups: NDArray[Any], values: NDArray[Any], count: int) -> NDArray[np.float64]:
    """(N,) groups and (N, R) values → (count, R): the sum of the values of each group."""
    table = csr_array((np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=(count, len(groups)))
    return np.asarray(table @ values.astype(np.float64))


def class_areas(p: NDArray[Any], labels: NDArray[Any]) -> list[float | None]:
    """Area under the ROC curve of each class of ``p`` (N, K); None where ``labels`` (N,) has clips on one side only."""
    return [None if np.isnan(a) else round(float(a), 6) for a in areas(p, labels, range(p.shape[1]))[:, 0]]


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
    n = len(p)
    classes = list(range(p.shape[1])) if positive is None else [positive]
    rounds = min(rounds, max(FEWEST, PAIRS // max(1, min(n * n, SORTING * n * len(classes)))))
    block = max(1, BLOCK // max(1, n))
    rng = np.random.default_rng(seed)
    hit = predicted == labels
    f1: list[NDArray[np.float64]] = []
    means: list[NDArray[np.float64]] = []
    for start in range(0, rounds if n else 0, block):
        times = rng.multinomial(n, np.full(n, 1 / n), min(block, rounds - start)).T
        both = _sums(labels[hit], times[hit], p.shape[1])[classes]
        either = (_sums(labels, times, p.shape[1]) + _sums(predicted, times, p.shape[1]))[classes]
        f1.append((2 * both / np.maximum(either, 1)).sum(0) / np.maximum((either > 0).sum(0), 1))
        area = areas(p, labels, classes, times)
        means.append(np.nanmean(area[:, ~np.isnan(area).all(0)], 0))

    def middle(values: list[NDArray[np.float64]]) -> list[float] | None:
        flat = np.concatenate(values) if values else np.empty(0)
        return [round(float(v), 6) for v in np.quantile(flat, [0.025, 0.975])] if len(flat) else None

    return {"f1_interval": middle(f1), "auc_interval": middle(means)}
