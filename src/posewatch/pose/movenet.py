"""MoveNet MultiPose as a pose estimator: the network that also detects persons."""

from __future__ import annotations

from collections.abc import Sequence

from posewatch.masking.detector import Image
from posewatch.masking.movenet import MoveNetDetector
from posewatch.records import Detections


class MoveNetEstimator:
    """COCO-17 skeletons of up to six people."""

    name = "movenet"
    layout = "coco17"

    def __init__(self) -> None:
        self._detector = MoveNetDetector()
        self.weights = self._detector.weights

    def estimate(self, images: Sequence[Image]) -> list[Detections]:
        return self._detector.detect(images)
