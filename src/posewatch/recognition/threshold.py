"""The threshold from which a clip is positive, how it is chosen on people held out of training, and the decision.

What is wished for is ``f1`` or ``accuracy``, as good as can be, or a bound that must hold: ``precision=.9``,
``recall=.9``, ``false_positive_rate=.05``, ``false_alarms_per_hour=1``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.config import TrainConfig
from posewatch.datasets.clipset import ClipSet
from posewatch.errors import ConfigError
from posewatch.rules import AT

HOUR_S = 3600.0


def decide(probabilities: NDArray[np.float32], positive: int, threshold: float) -> NDArray[np.int64]:
    """(N, K) → (N,): ``positive`` where its probability reaches ``threshold``, else the likeliest other class."""
    others = probabilities.copy()
    others[:, positive] = -1
    return np.where(probabilities[:, positive] >= threshold, positive, others.argmax(1)).astype(np.int64)


@dataclass(frozen=True)
class Counts:
    """What a threshold does to N clips: hits, predicted positives, true positives in all, and N."""

    threshold: float
    hits: int
    predicted: int
    positives: int
    clips: int

    @property
    def f1(self) -> float:
        return 2 * self.hits / max(1, self.predicted + self.positives)

    @property
    def accuracy(self) -> float:
        wrong = self.predicted + self.positives - 2 * self.hits
        return 1 - wrong / max(1, self.clips)

    @property
    def precision(self) -> float:
        """1 where nothing is predicted: no alarm is a false one."""
        return self.hits / self.predicted if self.predicted else 1.0

    @property
    def recall(self) -> float:
        return self.hits / max(1, self.positives)

    @property
    def false_positive_rate(self) -> float:
        return (self.predicted - self.hits) / max(1, self.clips - self.positives)


def candidates(scores: NDArray[Any], truth: NDArray[Any]) -> list[Counts]:
    """Every threshold in (0, 1) that makes a difference, from low to high.

    Of the range that predicts the same it is the one nearest to 0.5, a tenth off the ends, where rounding would decide.
    """
    truth = truth.astype(bool)
    edges = np.concatenate([[0.0], np.unique(scores.astype(np.float64)), [1.0]])
    found = []
    for low, high in itertools.pairwise(edges):
        if high > low:
            predicted = scores >= high
            margin = 0.1 * (high - low)
            near = float(np.clip(0.5, low + margin, high - margin))
            hits = int((predicted & truth).sum())
            found.append(Counts(near, hits, int(predicted.sum()), int(truth.sum()), len(truth)))
    return found


def choose_threshold(scores: NDArray[Any], truth: NDArray[Any], by: str = "f1") -> float:
    """The threshold in (0, 1) with the best F1 (``accuracy``) for ``scores`` (N,) against ``truth`` (N,) in {0, 1}.

    Few clips leave a wide range of equally good ones: then the one in it nearest to 0.5. 0.5 when a class is missing.
    """
    if truth.all() or not truth.any():
        return 0.5
    best, choice = -1.0, 0.5
    for one in candidates(scores, truth):
        value = float(getattr(one, by))
        if value > best + 1e-9 or (value > best - 1e-9 and abs(one.threshold - 0.5) < abs(choice - 0.5)):
            best, choice = value, one.threshold
    return choice


THRESHOLD_CLIPS = 100
"""Validation clips that weigh as much as the threshold that theory expects."""


def odds_of(clips: ClipSet, positive: int, config: TrainConfig) -> float:
    """Negatives per positive where training weighs both classes alike; else 1."""
    share = float((clips.labels == positive).mean())
    return (1 - share) / share if config.balance != "none" and len(clips.classes) == 2 else 1.0


def shrunk_threshold(scores: NDArray[Any], truth: NDArray[Any], odds: float = 1.0, by: str = "f1") -> float:
    """The threshold with the best F1 for ``scores`` (N,), shrunk towards the expected one, the more the smaller N is.

    The best threshold on a calibrated probability is half of the F1 that it reaches (Lipton et al., arXiv 1402.1892);
    for ``accuracy`` it is one half. Training with balanced classes multiplies the odds by ``odds``, negatives per
    positive, and the threshold with them.
    """
    chosen = choose_threshold(scores, truth, by)
    predicted = scores >= chosen
    f1 = 2 * int((predicted & truth.astype(bool)).sum()) / max(1, int(predicted.sum() + truth.sum()))
    half = float(np.clip(f1, 0.5, 1.0)) / 2 if by == "f1" else 0.5
    expected = odds * half / (odds * half + 1 - half)
    share = len(scores) / (len(scores) + THRESHOLD_CLIPS)
    return round(expected + (chosen - expected) * share, 4)


@dataclass(frozen=True)
class Chosen:
    """A threshold, the ``counts`` that it has on the clips that it was chosen on, and whether they meet the wish."""

    threshold: float
    counts: Counts
    met: bool = True


def threshold_at(
    wish: str, scores: NDArray[Any], truth: NDArray[Any], odds: float = 1.0, seconds: float = 0.0
) -> Chosen:
    """The threshold for a wish, from ``scores`` (N,) of clips of ``seconds`` against ``truth`` (N,) in {0, 1}.

    A bound takes the threshold that meets it with the best of what it costs (recall; for ``recall`` precision); where
    none meets it, the nearest one. Raises ConfigError for another wish.
    """
    name, limit = parse(wish)
    if name in ("f1", "accuracy"):
        threshold = shrunk_threshold(scores, truth, odds, name)
        return Chosen(threshold, at(threshold, scores, truth))
    if name == "false_alarms_per_hour":
        if seconds <= 0:
            raise ConfigError(
                f"{wish} needs the length of the clips, which this checkpoint does not hold: train it again"
            )
        name, limit = "false_positive_rate", limit * seconds / HOUR_S
    sign = -1 if name == "false_positive_rate" else 1
    cost: Callable[[Counts], float] = (lambda c: c.precision) if name == "recall" else (lambda c: c.recall)
    every = candidates(scores, truth)
    meeting = [one for one in every if sign * getattr(one, name) >= sign * limit - 1e-9]
    if meeting:
        best = max(meeting, key=lambda c: (cost(c), sign * getattr(c, name), -abs(c.threshold - 0.5)))
    else:
        best = max(every, key=lambda c: (sign * getattr(c, name), cost(c)))
    return Chosen(best.threshold, best, bool(meeting))


def at(threshold: float, scores: NDArray[Any], truth: NDArray[Any]) -> Counts:
    """The counts of one threshold."""
    predicted, truth = scores >= threshold, truth.astype(bool)
    return Counts(threshold, int((predicted & truth).sum()), int(predicted.sum()), int(truth.sum()), len(truth))


def parse(wish: str) -> tuple[str, float]:
    """``precision=.9`` → ("precision", 0.9); ``f1`` and ``accuracy`` have no number. Raises ConfigError."""
    if not AT.holds(wish):
        raise ConfigError(f"a threshold is chosen at {AT.words}, not at {wish!r}")
    name, _, number = wish.partition("=")
    return name, float(number or 0)
