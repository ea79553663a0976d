"""MoveNet MultiPose Lightning: boxes and COCO-17 keypoints of up to six people in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posewatch import weights
from posewatch.perception.networks.litert import Network
from posewatch.perception.ports import Image
from posewatch.perception.tracking.matching import distinct
from posewatch.records import Detections

_STRIDE = 32
JOINTS = 17


class MoveNet:
    """Detector and pose estimator. ``side`` is the longer side of its input in pixels, ``floor`` the lowest score
    reported."""

    name = "movenet"
    layout = "coco17"

    def __init__(self, side: int = 384, floor: float = 0.08) -> None:
        self.weights = {"movenet": weights.record("movenet")}
        self._net = Network(weights.path("movenet"))
        self._side, self._floor = side, floor

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Persons in each image, best first; the same person is not reported twice."""
        return [self._one(image) for image in images]

    estimate = detect

    def _one(self, image: Image) -> Detections:
        import cv2

        height, width = image.shape[:2]
        scale = self._side / max(height, width)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        # padded to the stride only: a padded pixel costs as much time as one of the image
        outer = tuple(-(-n // _STRIDE) * _STRIDE for n in inner)
        canvas = np.zeros((1, outer[1], outer[0], 3), np.uint8)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        canvas[0, : inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=how)
        rows = self._net.run(canvas)[0][0]  # (6, 56): 17 x (y, x, score), then y1, x1, y2, x2, score
        rows = rows[rows[:, 55] >= self._floor]
        to_x, to_y = outer[0] * width / inner[0], outer[1] * height / inner[1]
        joints = rows[:, : 3 * JOINTS].reshape(-1, JOINTS, 3)
        keypoints = np.stack([joints[..., 1] * to_x, joints[..., 0] * to_y, np.clip(joints[..., 2], 0, 1)], -1)
        boxes = rows[:, [52, 51, 54, 53]] * np.array([to_x, to_y, to_x, to_y])
        boxes = np.clip(boxes, 0, [width, height, width, height])
        scores = np.clip(rows[:, 55], 0, 1)
        selected = distinct(boxes, scores, keypoints)
        boxes, scores, keypoints = (a[selected].astype(np.float32) for a in (boxes, scores, keypoints))
        return Detections(boxes, scores, keypoints)
