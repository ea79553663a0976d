"""BlazePose's person mask, on a crop that is turned upright so that it works on lying people too.

The network smooths away hands, feet and fast limbs; a figure drawn from the confident keypoints restores them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posewatch import weights
from posewatch.perception.networks.boxes import BoxSegmenter
from posewatch.perception.networks.litert import Network
from posewatch.perception.ports import Image, Mask, Masks, Segmenter
from posewatch.records import Detections

_SIDE = 256
_CONFIDENT = 0.3
"""Keypoints with a lower score do not influence the crop and are not drawn."""
_LEAST_FILL = 0.12
"""A mask that fills less of the person's box has failed, and the box's ellipse is added."""
_ENOUGH = 10
"""Fewer confident keypoints do not locate the whole body; the box then decides the crop."""
_CONVINCED = 0.5
"""Presence times the share of confident joints inside the mask (it may be a neighbour's) from which no other crop is
tried."""
_OBLONG = 1.4
"""Ratio of the sides from which a box is tall or wide."""
_NOSE, _EARS, _SHOULDERS, _HIPS = 0, (3, 4), (5, 6), (11, 12)
_LIMBS = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16))


@dataclass(frozen=True)
class Crop:
    """A square of the image: centre and side in pixels, ``up`` the unit vector from the hips to the shoulders."""

    centre: NDArray[np.float64]
    side: float
    up: NDArray[np.float64]

    def to_crop(self) -> NDArray[np.float64]:
        """Affine map (2, 3) from pixels of the image to pixels of the 256 x 256 crop."""
        right = np.array([-self.up[1], self.up[0]])
        axes = np.stack([right, -self.up]) * (_SIDE / self.side)
        return np.concatenate([axes, (_SIDE / 2 - axes @ self.centre)[:, None]], 1)


def crop_of(box: NDArray[np.float32], keypoints: NDArray[np.float32]) -> Crop:
    """The crop for a person with this box (4,) and COCO-17 keypoints (17, 3)."""
    confident = keypoints[:, 2] >= _CONFIDENT
    middle = box.reshape(2, 2).mean(0).astype(float)
    longer = float(max(box[2] - box[0], box[3] - box[1], 8))
    up = np.array([0.0, -1.0])
    if confident[list(_SHOULDERS)].any() and confident[list(_HIPS)].any():
        ends = [keypoints[list(pair)][confident[list(pair)], :2].mean(0) for pair in (_SHOULDERS, _HIPS)]
        torso = (ends[0] - ends[1]).astype(float)
        # a torso seen from its end has no direction worth following
        if np.hypot(*torso) > 0.12 * longer:
            up = torso / np.hypot(*torso)
    if confident.sum() < _ENOUGH:
        return Crop(middle, 1.4 * longer, up)
    right = np.array([-up[1], up[0]])
    along = keypoints[confident, :2] @ np.stack([right, -up]).T  # in the turned frame: x to the right, y down
    low, high = along.min(0), along.max(0)
    centre = (low + high) / 2
    side = 1.4 * max(float((high - low).max()), 0.6 * longer)  # room for the crown, hands and feet
    return Crop(centre[0] * right - centre[1] * up, side, up)


def other_crops(box: NDArray[np.float32]) -> list[Crop]:
    """Crops that ignore the joints, which are often wrong on the ground: wider, in the upright directions that a person
    in such a box can have; somebody in a tall box does not lie across it."""
    middle = box.reshape(2, 2).mean(0).astype(float)
    width, height = (box[2:] - box[:2]).astype(float)
    side = 1.8 * max(width, height, 8.0)
    up, left, right, down = ((0.0, -1.0), (-1.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    tall, wide = height > _OBLONG * width, width > _OBLONG * height
    directions = (up, down) if tall else (up, left, right) if wide else (up, left, right, down)
    return [Crop(middle, side, np.array(direction)) for direction in directions]


def figure(shape: tuple[int, int], keypoints: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A simple silhouette (H, W) of 0 and 1 from the confident COCO-17 keypoints: torso, limbs and head."""
    import cv2

    canvas = np.zeros(shape, np.uint8)
    confident = keypoints[:, 2] >= _CONFIDENT
    points = keypoints[:, :2].round().astype(int)

    def length(a: int, b: int) -> float:
        return math.dist(keypoints[a, :2], keypoints[b, :2]) if confident[a] and confident[b] else 0.0

    # some of these lengths are foreshortened, hardly ever all of them
    body = max(length(5, 11), length(6, 12), *(1.1 * length(*limb) for limb in _LIMBS[4:]))
    if body < 4:
        return canvas
    corners = [i for i in (5, 6, 12, 11) if confident[i]]
    if len(corners) >= 3:
        cv2.fillConvexPoly(canvas, cv2.convexHull(points[corners].astype(np.int32)), 1)
    for i, (a, b) in enumerate(_LIMBS):
        if confident[a] and confident[b] and length(a, b) < 1.6 * body:
            width = body * (0.16 if i < 4 else 0.22)
            cv2.line(canvas, tuple(points[a].tolist()), tuple(points[b].tolist()), 1, max(1, round(width)))
    head = [i for i in (_NOSE, *_EARS) if confident[i]]
    if head:
        cv2.circle(canvas, tuple(points[head].mean(0).round().astype(int).tolist()), max(1, round(0.16 * body)), 1, -1)
    return canvas


def _covered(mask: Mask, keypoints: NDArray[np.float32]) -> float:
    """Share of the confident joints that lie in the mask (H, W); 1 when no joint is confident."""
    points = keypoints[keypoints[:, 2] >= _CONFIDENT, :2].round().astype(int)
    height, width = mask.shape
    x, y = np.clip(points[:, 0], 0, width - 1), np.clip(points[:, 1], 0, height - 1)
    return float(mask[y, x].mean()) if len(points) else 1.0


def _ellipse(shape: tuple[int, int], box: NDArray[np.float32]) -> Mask:
    """The ellipse in a box as a mask (H, W)."""
    import cv2

    canvas = np.zeros(shape, np.uint8)
    centre, half = box.reshape(2, 2).mean(0), (box[2:] - box[:2]) / 2
    cv2.ellipse(canvas, centre.round().astype(int).tolist(), half.round().astype(int).tolist(), 0, 0, 360, 1, -1)
    return canvas > 0


class BlazePoseSegmenter(Segmenter):
    """Masks of detections with COCO-17 keypoints; detections without keypoints get their box."""

    name = "blazepose"

    def __init__(self, min_presence: float = 0.3) -> None:
        self.weights = {"blazepose": weights.record("blazepose")}
        self._net = Network(weights.path("blazepose"))
        self._min_presence = min_presence

    def segment(self, image: Image, detections: Detections) -> Masks:
        if detections.keypoints is None:
            return BoxSegmenter().segment(image, detections)
        shape = image.shape[:2]
        masks = np.zeros((len(detections), *shape), bool)
        for mask, box, keypoints in zip(masks, detections.boxes, detections.keypoints, strict=True):
            mask |= self._one(image, keypoints, [crop_of(box, keypoints), *other_crops(box)])
            x1, y1, x2, y2 = box.round().astype(int)
            if mask[y1:y2, x1:x2].sum() < _LEAST_FILL * (x2 - x1) * (y2 - y1):
                mask |= _ellipse((shape[0], shape[1]), box)
            mask |= figure((shape[0], shape[1]), keypoints) > 0
        return masks

    def _one(self, image: Image, keypoints: NDArray[np.float32], crops: Sequence[Crop]) -> Mask:
        """The mask from the first convincing crop, else from the best one; empty when no crop shows a person."""
        best, mask = 0.0, np.zeros(image.shape[:2], bool)
        for crop in crops:
            presence, candidate = self._look(image, crop)
            if presence < self._min_presence:
                continue
            quality = presence * _covered(candidate, keypoints)
            if quality > best:
                best, mask = quality, candidate
            if best >= _CONVINCED:
                break
        return mask

    def _look(self, image: Image, crop: Crop) -> tuple[float, Mask]:
        """The predicted presence of a person in the crop, in [0, 1], and that person's mask."""
        import cv2

        matrix = crop.to_crop()
        upright = cv2.warpAffine(image, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR)
        _, presence, logits, *_ = self._net.run(upright[None].astype(np.float32) / 255)
        height, width = image.shape[:2]
        back = cv2.warpAffine(
            logits[0, :, :, 0],
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=-10,
        )
        mask: Mask = back > 0
        return float(presence[0, 0]), mask
