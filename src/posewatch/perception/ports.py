"""The port to whatever finds persons in pictures, and its double for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from posewatch.records import Detections

Image = NDArray[np.uint8]


class Detector(Protocol):
    """Finds persons. ``weights`` maps each weights name to {"sha256", "licence"}, for the lineage."""

    name: str
    weights: dict[str, dict[str, str]]

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Persons in each of the pictures, uint8 (H, W, 3) RGB; coordinates in pixels of that picture."""
        ...


class FixedDetector:
    """A double that finds what a function of the picture says; without one it finds nobody."""

    name = "fixed"

    def __init__(self, find: Callable[[Image], Detections] | None = None) -> None:
        self.weights: dict[str, dict[str, str]] = {}
        self._find = find or (lambda image: Detections.none(17))

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [self._find(image) for image in images]


Masks = NDArray[np.bool_]


class Segmenter(Protocol):
    """Cuts persons out. ``weights`` maps each weights name to {"sha256", "licence"}, for the lineage."""

    name: str
    weights: dict[str, dict[str, str]]

    def segment(self, image: Image, detections: Detections) -> Masks:
        """One mask (P, H, W) for each detected person of a picture, uint8 (H, W, 3) RGB."""
        ...


@runtime_checkable
class VideoSegmenter(Segmenter, Protocol):
    """A segmenter that remembers persons from frame to frame; ``detections.ids`` say who is who."""

    def begin(self) -> None:
        """Forget everybody: a new stretch of video begins."""
        ...

    def recall(self, persons: Sequence[int]) -> dict[int, NDArray[np.bool_]]:
        """Masks (H, W) in the frame that was segmented last of persons who were not detected in it, where known."""
        ...


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
