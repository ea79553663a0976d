"""What the generated test videos show, and a detector that finds it."""

from __future__ import annotations

import numpy as np

from posewatch.records import Detections


def picture(t: float, width: int, height: int) -> np.ndarray:
    """Grey, with a white square that moves right by 40 pixels a second, and a red corner at the top left."""
    image = np.full((height, width, 3), 90, np.uint8)
    x, y = int(10 + 40 * t), height // 2
    image[y : y + 20, x : x + 20] = 255
    image[:16, :16] = (220, 20, 20)
    return image


def square(image: np.ndarray) -> Detections:
    """The white square of ``picture`` as a person; its 17 joints lie spread over it."""
    bright = image.min(-1) > 190
    if bright.sum() < 40:
        return Detections.none(17)
    ys, xs = np.nonzero(bright)
    x1, y1, x2, y2 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    joints = np.linspace([x1, y1, 0.9], [x2, y2, 0.9], 17, dtype=np.float32)
    return Detections(np.array([[x1, y1, x2, y2]], np.float32), np.array([0.9], np.float32), joints[None])
