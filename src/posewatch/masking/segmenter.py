"""The port to whatever cuts persons out of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from posewatch.masking.detector import Image
from posewatch.records import Detections

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
