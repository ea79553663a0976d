"""Skeletons drawn over images, one colour per person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError

LIMBS: Sequence[tuple[int, int]] = (
    (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10),
    (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16),
)  # fmt: skip
"""Pairs of COCO-17 joints that are drawn as lines."""

COLOURS: Sequence[tuple[int, int, int]] = (
    (46, 204, 113), (255, 159, 28), (52, 152, 219), (231, 76, 160), (241, 221, 60), (155, 89, 232),
)  # fmt: skip


def overlay(image: NDArray[np.uint8], keypoints: NDArray[np.float32], min_score: float = 0.1) -> NDArray[np.uint8]:
    """A copy of ``image`` (H, W, 3) with the COCO-17 skeletons ``keypoints`` (M, 17, 3) drawn over it."""
    import cv2

    if keypoints.ndim != 3 or keypoints.shape[1:] != (17, 3):
        raise InputError(f"an overlay needs COCO-17 keypoints (M, 17, 3), not {keypoints.shape}")
    out = np.ascontiguousarray(image).copy()
    thick = max(1, round(max(image.shape[:2]) / 240))
    for m, person in enumerate(keypoints):
        colour = COLOURS[m % len(COLOURS)]
        shown = person[:, 2] >= min_score
        points = person[:, :2].round().astype(int).tolist()
        for a, b in LIMBS:
            if shown[a] and shown[b]:
                cv2.line(out, points[a], points[b], colour, thick, cv2.LINE_AA)
        for point, visible in zip(points, shown, strict=True):
            if visible:
                cv2.circle(out, point, thick + 1, colour, -1, cv2.LINE_AA)
    return out
