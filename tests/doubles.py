"""Doubles of networks: a predictor with one answer, a detector and pose estimator that a function answers for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch.inference.predictor import Predictor, Shape, check_clips
from posewatch.perception.ports import Image, Weights
from posewatch.records import Detections, Prediction


class ConstantPredictor(Predictor):
    """The double: the same ``probabilities`` (K numbers that sum to 1; default: all equal) for every clip."""

    def __init__(
        self, labels: Sequence[str], probabilities: Sequence[float] | None = None, shape: Shape = (2, 48, 17, 3)
    ) -> None:
        self.labels, self.shape, self.metadata = tuple(labels), shape, {}
        self._row = np.array([probabilities or [1 / len(labels)] * len(labels)], np.float32)

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        check_clips(keypoints, self.shape, "this predictor")
        count = len(keypoints)
        return Prediction(np.repeat(self._row, count, 0), self.labels, np.zeros((count, 1), np.float32))


class FixedNetwork:
    """A double of the detector and the pose estimator: ``find`` maps an image to its persons, by default to none."""

    name = "fixed"
    layout = "coco17"

    def __init__(self, find: Callable[[Image], Detections] = lambda image: Detections.none(17)) -> None:
        self.weights: Weights = {}
        self._find = find

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [self._find(image) for image in images]

    estimate = detect
