"""MoveNet MultiPose Lightning: boxes and COCO-17 keypoints of up to six people in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from posewatch import weights
from posewatch.perception.networks.litert import Network
from posewatch.perception.ports import Image
from posewatch.perception.tracking.matching import distinct, merged
from posewatch.records import Detections

_STRIDE = 32
JOINTS = 17
_WHOLE = (384, 256)
"""Longer sides, in pixels, at which the network looks at the whole image: what it overlooks at one scale it often sees
at another."""
_PART, _PART_SIDE = 0.6, 256
"""Share of the longer side that each of the two parts of an image has, and the longer side of the network's input."""
_MOST = 6
"""Persons that the network reports at most."""
_DOUBT, _SURE = 0.15, 0.4
"""Scores between which somebody may be a person or not."""
_LOOK_FLOOR, _FLOOR = 0.05, 0.06
"""Lowest scores that count: of one look, and of all together."""
_LARGE = 0.42
"""Longer side of a box, as a share of the image's, from which the smaller look alone finds joints as well as both."""


class MoveNet:
    """Detector and pose estimator. It looks at an image more than once, as each look overlooks people: ``detect`` at
    the whole at two scales and, where that leaves a doubt, at two overlapping parts; ``estimate`` at the whole only."""

    name = "movenet"
    layout = "coco17"

    def __init__(self) -> None:
        self.weights = {"movenet": weights.record("movenet")}
        # one for each shape of input: a network that changes its shape allocates its memory again
        self._whole = {side: Network(weights.path("movenet")) for side in _WHOLE}

    @cached_property
    def _part(self) -> Network:
        """Loaded when it is needed: watching never needs it, and a network takes 35 MiB."""
        return Network(weights.path("movenet"))

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Persons in each image, best first; the same person is not reported twice."""
        return [self._thorough(image) for image in images]

    def estimate(self, images: Sequence[Image]) -> list[Detections]:
        """The same with half the work, for images of which little but the people is left, and for live video."""
        return [_surest(self._looks(image), len(_WHOLE)) for image in images]

    def glance(self, image: Image, people: Detections) -> Detections:
        """As ``estimate``, with a third of the work where ``people``, who were just seen, are large in the image, and
        the smaller look finds as many who are as large, for sure, and nobody else who may be a person."""
        if not len(people) or not _large(people, image):
            return self.estimate([image])[0]
        small = self._look(image, min(_WHOLE))
        found = _surest([small], 1)
        likely = found.pick(np.flatnonzero(found.scores >= _DOUBT).tolist())
        if len(likely) == len(people) and (likely.scores >= _SURE).all() and _large(likely, image):
            return found
        return _surest([self._look(image, max(_WHOLE)), small], len(_WHOLE))

    def _look(self, image: Image, side: int) -> Detections:
        return _look(self._whole[side], image, side)

    def _thorough(self, image: Image) -> Detections:
        whole = self._looks(image)
        found = _surest(whole, len(_WHOLE))
        sure, doubtful = found.scores >= _SURE, (found.scores >= _DOUBT) & (found.scores < _SURE)
        if sure.any() and not doubtful.any() and len(found) < _MOST:
            return found  # a closer look would show the same people
        return _surest([*whole, *self._parts(image)], len(_WHOLE) + 1)

    def _looks(self, image: Image) -> list[Detections]:
        return [self._look(image, side) for side in _WHOLE]

    def _parts(self, image: Image) -> list[Detections]:
        height, width = image.shape[:2]
        wide = width >= height
        length = round(_PART * max(height, width))
        looks = []
        for start in (0, max(height, width) - length):
            part = image[:, start : start + length] if wide else image[start : start + length]
            found = _look(self._part, part, _PART_SIDE)
            assert found.keypoints is not None
            shift = np.array([start, 0] if wide else [0, start], np.float32)
            keypoints = found.keypoints + np.append(shift, np.float32(0))
            looks.append(Detections(found.boxes + np.tile(shift, 2), found.scores, keypoints))
        return looks


def _large(people: Detections, image: Image) -> bool:
    sides = (people.boxes[:, 2:] - people.boxes[:, :2]).max(1)
    return bool((sides >= _LARGE * max(image.shape[:2])).all())


def _surest(looks: Sequence[Detections], chances: int) -> Detections:
    """The persons of the looks, their scores as low as one look would give for the same rate of false persons: a person
    had ``chances`` to be seen, and so had everything else."""
    found = merged(looks)
    odds = found.scores * 3 / (chances + 2)
    scores = odds / (odds + 1 - found.scores + 1e-9)
    found = Detections(found.boxes, scores.astype(np.float32), found.keypoints)
    return found.pick(np.flatnonzero(found.scores >= _FLOOR).tolist())


def _look(net: Network, image: Image, side: int) -> Detections:
    """The persons that the network sees when the image's longer side is ``side`` pixels."""
    import cv2

    height, width = image.shape[:2]
    scale = side / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    # padded to the stride only: a padded pixel costs as much time as one of the image
    outer = tuple(-(-n // _STRIDE) * _STRIDE for n in inner)
    canvas = np.zeros((1, outer[1], outer[0], 3), np.uint8)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[0, : inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=how)
    rows = net.run(canvas)[0][0]  # (6, 56): 17 x (y, x, score), then y1, x1, y2, x2, score
    rows = rows[rows[:, 55] >= _LOOK_FLOOR]
    to_x, to_y = outer[0] * width / inner[0], outer[1] * height / inner[1]
    joints = rows[:, : 3 * JOINTS].reshape(-1, JOINTS, 3)
    keypoints = np.stack([joints[..., 1] * to_x, joints[..., 0] * to_y, np.clip(joints[..., 2], 0, 1)], -1)
    boxes = rows[:, [52, 51, 54, 53]] * np.array([to_x, to_y, to_x, to_y])
    boxes = np.clip(boxes, 0, [width, height, width, height])
    scores = np.clip(rows[:, 55], 0, 1)
    selected = distinct(boxes, scores, keypoints)
    boxes, scores, keypoints = (a[selected].astype(np.float32) for a in (boxes, scores, keypoints))
    return Detections(boxes, scores, keypoints)
