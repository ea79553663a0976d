"""What masking and the pose stage ask of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from posewatch.records import Detections

Image = NDArray[np.uint8]
"""uint8 (H, W, 3), RGB."""
Mask = NDArray[np.bool_]
"""bool (H, W), True on the person."""
Masks = NDArray[np.bool_]
"""bool (P, H, W), one mask per person."""
Weights = dict[str, dict[str, str]]
"""Name of a weights file → {"sha256", "licence"}, for the lineage."""


class Detector(Protocol):
    """Finds persons."""

    name: str
    weights: Weights

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Persons in each image; coordinates in pixels of that image."""
        ...


class Segmenter(Protocol):
    """Cuts persons out. One with a memory of the frames before, such as SAM 2, overrides ``begin`` and ``recall``."""

    name: str
    weights: Weights

    def segment(self, image: Image, detections: Detections) -> Masks:
        """One mask (P, H, W) per detected person; ``detections.ids`` are the track ids."""
        ...

    def begin(self) -> None:
        """Forget all persons: the next image does not follow the last one."""
        return None

    def recall(self, track_ids: Sequence[int]) -> dict[int, Mask]:
        """Track id → mask in the image segmented last, of persons not detected in it, where the memory has one."""
        return {}


class PoseEstimator(Protocol):
    """Finds skeletons. ``layout`` names the joints."""

    name: str
    layout: str
    weights: Weights

    def estimate(self, images: Sequence[Image]) -> list[Detections]:
        """Persons with keypoints in each image; coordinates in pixels of that image."""
        ...


@runtime_checkable
class GlancingEstimator(PoseEstimator, Protocol):
    """A pose estimator that can look at less where it is told what was there a moment ago."""

    def glance(self, image: Image, people: Detections) -> Detections:
        """Persons with keypoints in an image, a moment after ``people`` were seen there: with less work if that shows
        them as well, else as ``estimate``."""
        ...


class TopDownEstimator(PoseEstimator, Protocol):
    """A pose estimator that looks at one person at a time, where a detector found one."""

    def complete(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Detections]:
        """The persons found in each image, in the same order, with keypoints."""
        ...
