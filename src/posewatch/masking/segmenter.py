"""The port to whatever cuts persons out of a picture."""

from __future__ import annotations

from typing import Protocol

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
