"""The port to whatever finds skeletons in pictures, and its double for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from posewatch.masking.detector import FixedDetector, Image
from posewatch.records import Detections


class PoseEstimator(Protocol):
    """Finds skeletons. ``weights`` maps each weights name to {"sha256", "licence"}, ``layout`` names the joints."""

    name: str
    layout: str
    weights: dict[str, dict[str, str]]

    def estimate(self, images: Sequence[Image]) -> list[Detections]:
        """Persons with keypoints in each of the pictures, uint8 (H, W, 3) RGB; pixels of that picture."""
        ...


class FixedEstimator(FixedDetector):
    """A double that finds what a function of the picture says; without one it finds nobody."""

    layout = "coco17"

    def estimate(self, images: Sequence[Image]) -> list[Detections]:
        return self.detect(images)
