"""The threshold from which a clip is positive, and the decision itself."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.config import TrainConfig
from posewatch.datasets.clipset import ClipSet


def decide(probabilities: NDArray[np.float32], positive: int, threshold: float) -> NDArray[np.int64]:
    """(N, K) → (N,): ``positive`` where its probability reaches ``threshold``, else the likeliest other class."""
    others = probabilities.copy()
    others[:, positive] = -1
    return np.where(probabilities[:, positive] >= threshold, positive, others.argmax(1)).astype(np.int64)


def choose_threshold(scores: NDArray[Any], truth: NDArray[Any]) -> float:
    """The threshold in (0, 1) with the best F1 for ``scores`` (N,) against ``truth`` (N,) in {0, 1}.

    Few clips leave a wide range of equally good ones: then the one in it nearest to 0.5. 0.5 when a class is missing.
    """
    truth = truth.astype(bool)
    if truth.all() or not truth.any():
        return 0.5
    edges = np.concatenate([[0.0], np.unique(scores.astype(np.float64)), [1.0]])
    best, choice = -1.0, 0.5
    for low, high in itertools.pairwise(edges):
        if high <= low:
            continue
        predicted = scores >= high
        hit = int((predicted & truth).sum())
        f1 = 2 * hit / max(1, int(predicted.sum() + truth.sum()))
        # Every threshold in (low, high] predicts the same; stay off the ends, where rounding would decide.
        margin = 0.1 * (high - low)
        near = float(np.clip(0.5, low + margin, high - margin))
        if f1 > best + 1e-9 or (f1 > best - 1e-9 and abs(near - 0.5) < abs(choice - 0.5)):
            best, choice = f1, near
    return choice


THRESHOLD_CLIPS = 100
"""Validation clips that weigh as much as the threshold that theory expects."""


def odds_of(clips: ClipSet, positive: int, config: TrainConfig) -> float:
    """Negatives per positive where training weighs both classes alike; else 1."""
    share = float((clips.labels == positive).mean())
    return (1 - share) / share if config.balance != "none" and len(clips.classes) == 2 else 1.0


def shrunk_threshold(scores: NDArray[Any], truth: NDArray[Any], odds: float = 1.0) -> float:
    """The threshold with the best F1 for ``scores`` (N,), shrunk towards the expected one, the more the smaller N is.

    The best threshold on a calibrated probability is half of the F1 that it reaches (Lipton et al., arXiv 1402.1892).
    Training with balanced classes multiplies the odds by ``odds``, negatives per positive, and the threshold with them.
    """
    chosen = choose_threshold(scores, truth)
    predicted = scores >= chosen
    f1 = 2 * int((predicted & truth.astype(bool)).sum()) / max(1, int(predicted.sum() + truth.sum()))
    half = float(np.clip(f1, 0.5, 1.0)) / 2
    expected = odds * half / (odds * half + 1 - half)
    share = len(scores) / (len(scores) + THRESHOLD_CLIPS)
    return round(expected + (chosen - expected) * share, 4)
