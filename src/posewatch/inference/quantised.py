"""Keypoints as 16-bit integers, half the bytes of a request: coordinates in sixteenths of a pixel, scores in 65535ths.

The graph of a model that takes them begins with the decoder (``export/quantised.py``), and its metadata say
``wire: uint16``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIRE = "uint16"
STEPS = (16.0, 16.0, 65535.0)
"""Of x, y and score: steps in a pixel, and from 0 to 1."""
ORIGIN = (512.0, 512.0, 0.0)
"""Added first: joints may lie left of the picture or above it. What is beyond 3583 pixels is cut off there."""


def takes_quantised(metadata: Mapping[str, str]) -> bool:
    """Whether a model with these metadata takes 16-bit keypoints."""
    return metadata.get("wire") == WIRE


def encode(keypoints: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Keypoints (..., 3): x, y in pixels and a score → uint16 of that shape."""
    steps = (keypoints + np.array(ORIGIN, np.float32)) * np.array(STEPS, np.float32)
    return np.clip(np.rint(steps), 0, 65535).astype(np.uint16)


def decode(codes: NDArray[np.uint16]) -> NDArray[np.float32]:
    """What the graph makes of 16-bit keypoints."""
    pixels = codes.astype(np.float32) * (1 / np.array(STEPS, np.float32)) - np.array(ORIGIN, np.float32)
    return np.asarray(pixels, np.float32)


def as_sent(keypoints: NDArray[np.float32], metadata: Mapping[str, str]) -> NDArray[Any]:
    """Keypoints as a model with these metadata takes them."""
    return encode(keypoints) if takes_quantised(metadata) else keypoints
