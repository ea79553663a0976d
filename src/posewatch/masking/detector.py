"""The port to whatever finds persons in pictures, and its double for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

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
