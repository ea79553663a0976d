"""The arithmetic of an evaluation, in numpy: F1, AUC and how far chance alone could have moved them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROUNDS = 1000
"""Bootstrap resamples; an interval's ends then repeat to about half a point from one seed to another."""
BLOCK = 100
"""Resamples that are worked on at once, which bounds the memory for large test sets."""


def ratio(a: float, b: float) -> float:
    """a / b, and 0 where b is 0."""
    return round(float(a) / float(b), 6) if b else 0.0


def confusion(labels: NDArray[Any], called: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Counts (K, K) of true class (row) against the class called (column) for ``labels`` and ``called`` (N,)."""
    matrix = np.zeros((k, k), np.int64)
    np.add.at(matrix, (labels, called), 1)
    return matrix


def auc(scores: NDArray[Any], truth: NDArray[Any]) -> float | None:
    """Area under the ROC curve, ties counting half; None when ``truth`` (N,) holds one class only."""
    found = _auc(np.asarray(scores, np.float64), np.asarray(truth, bool), np.ones((1, len(truth))))[0]
    return None if math.isnan(found) else round(float(found), 6)


def _auc(scores: NDArray[np.float64], truth: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """AUC under each row of ``weights`` (B, N): (B,), NaN where one class has no weight."""
    if not len(scores):
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) != 0)
    weights, truth = weights[:, order], truth[order]
    positive = np.add.reduceat(weights * truth, starts, 1)
    negative = np.add.reduceat(weights * ~truth, starts, 1)
    below = negative.cumsum(1) - negative
    pairs = positive.sum(1) * negative.sum(1)
    with np.errstate(invalid="ignore"):
        return np.where(pairs > 0, (positive * (below + negative / 2)).sum(1) / np.where(pairs > 0, pairs, 1), np.nan)


def measure(
    p: NDArray[Any], called: NDArray[Any], labels: NDArray[Any], positive: int | None = None
) -> dict[str, float | None]:
    """Accuracy, precision, recall, F1 and AUC of probabilities (N, K) and decisions (N,) against ``labels`` (N,).

    With a ``positive`` class index the last four are that class's. Without one they are means over the classes (macro):
    F1 and the like over those with a clip or a call, AUC (one against the rest) over those with clips on both sides.
    ``auc`` is None where no class has.
    """
    matrix = confusion(labels, called, p.shape[1])
    hits, said, real = matrix.diagonal(), matrix.sum(0), matrix.sum(1)
    chosen = np.flatnonzero(said + real > 0) if positive is None else np.array([positive])

    def mean(over: NDArray[np.int64]) -> float:
        return round(float((hits[chosen] / np.maximum(over[chosen], 1)).mean()), 6) if len(chosen) else 0.0

    areas = [a for a in (auc(p[:, k], labels == k) for k in chosen) if a is not None]
    return {
        "accuracy": ratio(hits.sum(), len(labels)),
        "precision": mean(said),
        "recall": mean(real),
        "f1": round(float((2 * hits[chosen] / np.maximum((said + real)[chosen], 1)).mean()), 6) if len(chosen) else 0.0,
        "auc": round(float(np.mean(areas)), 6) if areas else None,
    }


def wilson(hits: int, n: int, z: float = 1.959964) -> list[float]:
    """The 95 % interval of a share (Wilson's score interval), [low, high]; [0, 1] for nothing."""
    if not n:
        return [0.0, 1.0]
    p, q = hits / n, z * z / n
    half = z * math.sqrt(p * (1 - p) / n + q / (4 * n))
    low, high = (p + q / 2 - half) / (1 + q), (p + q / 2 + half) / (1 + q)
    return [round(max(0.0, low), 6), round(min(1.0, high), 6)]


def bootstrap(
    p: NDArray[Any],
    called: NDArray[Any],
    labels: NDArray[Any],
    positive: int | None = None,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> dict[str, list[float] | None]:
    """95 % intervals of F1 and AUC as ``measure`` has them: ``f1_interval`` and ``auc_interval``, [low, high].

    Clips are drawn with replacement ``rounds`` times and the middle 95 % taken. Clips of one video resemble each other,
    so for a test set of few videos the truth is wider. None where the measure is not defined.
    """
    n, k = p.shape
    rng = np.random.default_rng(seed)
    f1: list[NDArray[np.float64]] = []
    areas: list[NDArray[np.float64]] = []
    classes = np.arange(k)
    real_of, said_of = (labels[:, None] == classes).astype(float), (called[:, None] == classes).astype(float)
    chosen = list(range(k)) if positive is None else [positive]
    for start in range(0, rounds, BLOCK):
        weights = rng.multinomial(n, np.full(n, 1 / n), min(BLOCK, rounds - start)).astype(np.float64)
        both = (weights @ (real_of + said_of))[:, chosen]
        hits = (weights @ (real_of * said_of))[:, chosen]
        used = (both > 0).sum(1)
        share = (2 * hits / np.maximum(both, 1)).sum(1) / np.maximum(used, 1)
        f1.append(share)
        each = np.stack([_auc(p[:, c].astype(np.float64), labels == c, weights) for c in chosen])
        known = ~np.isnan(each)
        with np.errstate(invalid="ignore"):
            areas.append(np.where(known.any(0), np.where(known, each, 0).sum(0) / known.sum(0), np.nan))

    def middle(values: list[NDArray[np.float64]]) -> list[float] | None:
        flat = np.concatenate(values)
        flat = flat[~np.isnan(flat)]
        return [round(float(v), 6) for v in np.quantile(flat, [0.025, 0.975])] if len(flat) else None

    return {"f1_interval": middle(f1), "auc_interval": middle(areas)}
