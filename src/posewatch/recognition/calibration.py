"""How sure a recogniser may sound: the temperature of its probabilities, from clips of people held out of training.

A network that fits its training clips gives probabilities near 0 and 1 for people whom it has never seen. Dividing the
logits by one number, fitted on held-out people, mends most of that and changes no order (Guo et al., arXiv 1706.04599).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.config import TrainConfig
from posewatch.datasets.clipset import ClipSet
from posewatch.recognition.threshold import THRESHOLD_CLIPS, threshold_at

BINS = 10
"""Of equal width, in the reliability plot and the calibration error."""
_LEAST = 1e-7
_RANGE = (-2.0, 3.0)
"""Of the logarithm of a temperature."""


@dataclass(frozen=True)
class HeldOut:
    """What a network says of clips of people held out: ``scores`` (N, K) at temperature 1, ``labels`` (N,), and the
    mean length of the clips in ``seconds``."""

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    seconds: float

    @classmethod
    def by(cls, scores: NDArray[np.float32], clips: ClipSet) -> HeldOut:
        """Scores (N, K) of these clips."""
        return cls(scores, clips.labels, float(np.mean([k.shape[1] for k in clips.keypoints])) / clips.fps)


@dataclass(frozen=True)
class Calibration:
    """What is chosen on held-out clips; ``held_out`` None: nothing was held out, and nothing chosen. ``novelty`` is how
    much farther they lie from what the network knows than training clips (``Novelty.ratio``)."""

    threshold: float = 0.5
    temperature: float = 1.0
    held_out: HeldOut | None = None
    novelty: float | None = None


def calibrate(held: HeldOut, positive: int | None, config: TrainConfig, odds: float = 1.0) -> Calibration:
    """Temperature, and the threshold of class ``positive`` at ``config.threshold_at`` (0.5 without such a class).

    ``odds`` are the training clips' negatives per positive where training weighs both alike.
    """
    temperature = temperature_of(held, balanced=config.balance != "none")
    if positive is None:
        return Calibration(0.5, temperature, held)
    scores = tempered(held.scores, temperature)[:, positive]
    chosen = threshold_at(config.threshold_at, scores, held.labels == positive, odds, held.seconds)
    return Calibration(chosen.threshold, temperature, held)


def tempered(p: NDArray[Any], temperature: float) -> NDArray[np.float32]:
    """Probabilities (N, K) at another temperature: above 1 they are less sure."""
    logits = np.log(np.clip(p.astype(np.float64), _LEAST, 1)) / temperature
    logits -= logits.max(1, keepdims=True)
    p = np.exp(logits)
    return np.asarray(p / p.sum(1, keepdims=True), np.float32)


def temperature_of(held: HeldOut, *, balanced: bool) -> float:
    """The temperature with the least log loss on held-out clips, shrunk towards 1, the more the fewer they are.

    ``balanced``: every class weighs the same, as in a training that weighs them so. 1 where a class is missing.
    """
    from scipy.optimize import minimize_scalar

    counts = np.bincount(held.labels, minlength=held.scores.shape[1])
    if not counts.all():
        return 1.0
    weight = 1 / counts[held.labels] if balanced else np.ones(len(held.labels))
    rows = np.arange(len(held.labels))

    def loss(log_temperature: float) -> float:
        chosen = tempered(held.scores, float(np.exp(log_temperature)))[rows, held.labels]
        return float(-(np.log(np.maximum(chosen, _LEAST)) * weight).sum() / weight.sum())

    best = float(minimize_scalar(loss, bounds=_RANGE, method="bounded").x)
    return round(float(np.exp(best * len(rows) / (len(rows) + THRESHOLD_CLIPS))), 4)


def reliability(
    p: NDArray[Any], labels: NDArray[Any], positive: int | None = None, *, balanced: bool = False
) -> tuple[float, list[dict[str, float]]]:
    """The expected calibration error of (N, K), and its bins: mean ``confidence``, true ``frequency``, ``clips``.

    Of the ``positive`` class's probability; without one of the likeliest class's. ``balanced``: as if every class were
    equally frequent among the clips.
    """
    if positive is None:
        confidence, right = p.max(1), p.argmax(1) == labels
    else:
        confidence, right = p[:, positive], labels == positive
    counts = np.bincount(labels, minlength=p.shape[1])
    weight = 1 / counts[labels] if balanced else np.ones(len(labels))
    weight = weight / weight.sum()
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    error, bins = 0.0, []
    for i in range(BINS):
        inside = place == i
        share = float(weight[inside].sum())
        if share > 0:
            mean = float((confidence * weight)[inside].sum() / share)
            frequency = float((right * weight)[inside].sum() / share)
            error += share * abs(mean - frequency)
            bins.append({"confidence": round(mean, 6), "frequency": round(frequency, 6), "clips": int(inside.sum())})
    return round(error, 6), bins
