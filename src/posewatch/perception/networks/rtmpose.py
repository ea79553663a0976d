"""RTMPose (Jiang et al., arXiv 2303.07399) on ONNX Runtime: the skeleton of each person whom a detector found.

The contract is that of MMPose's ONNX SDK files: input (N, 3, H, W) float32, one person each, RGB, normalised as on
ImageNet, cut out around the middle of the box with a quarter more room and the input's aspect ratio, black beyond the
image; outputs ``simcc_x`` (N, 17, 2 W) and ``simcc_y`` (N, 17, 2 H): how likely a joint is in each half pixel's column
and row. A joint lies where both are largest, and scores the smaller of the two maxima.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch import weights
from posewatch.errors import WeightsError
from posewatch.perception.networks.onnx_runtime import Network
from posewatch.perception.ports import Detector, Image, TopDownEstimator
from posewatch.records import Detections

_OUTPUTS = ("simcc_x", "simcc_y")
_JOINTS = 17
_SPLIT = 2
"""Columns and rows of the answer for each pixel of the input."""
_ROOM = 1.25
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_STD = np.array([58.395, 57.12, 57.375], np.float32)


class RtmposeEstimator(TopDownEstimator):
    """COCO-17 skeletons with the boxes and scores of ``detector``."""

    name = "rtmpose"
    layout = "coco17"

    def __init__(self, which: str, detector: Detector, device: str = "auto") -> None:
        self.weights = {**detector.weights, **weights.records([which])}
        self._detector = detector
        self._path = weights.path(which)
        self._net = Network(self._path, device, free=(192, 256))
        if not set(_OUTPUTS) <= set(self._net.outputs):
            raise WeightsError(
                f"{self._path} is not an RTMPose network: it gives {', '.join(self._net.outputs)} "
                "(take a file of MMPose's ONNX SDK, with outputs simcc_x and simcc_y)"
            )

    def estimate(self, images: Sequence[Image]) -> list[Detections]:
        return self.complete(images, self._detector.detect(images))

    def complete(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Detections]:
        """The persons found in each image, with their keypoints. Persons of several images share a batch."""
        boxes = [Detections.none().boxes, *(persons.boxes for persons in found)]
        crops = _crops(np.concatenate(boxes), self._net.side)
        seen = [image for image, persons in zip(images, found, strict=True) for _ in range(len(persons))]
        keypoints = np.zeros((len(crops), _JOINTS, 3), np.float32)
        for i in range(0, len(crops), self._net.batch):
            part = slice(i, i + self._net.batch)
            data = [self._pixels(image, crop) for image, crop in zip(seen[part], crops[part], strict=True)]
            keypoints[part] = self._joints(*self._net.run(np.stack(data), _OUTPUTS))
        keypoints[..., :2] = keypoints[..., :2] * crops[:, None, 2:] + crops[:, None, :2]
        keypoints *= keypoints[..., 2:] > 0  # a joint that is nowhere
        ends = np.cumsum([len(persons) for persons in found])
        return [
            Detections(persons.boxes, persons.scores, keypoints[end - len(persons) : end], persons.ids)
            for persons, end in zip(found, ends, strict=True)
        ]

    def _pixels(self, image: Image, crop: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's input (3, H, W) for one person."""
        import cv2

        x, y, scale = crop.tolist()
        matrix = np.array([[1 / scale, 0, -x / scale], [0, 1 / scale, -y / scale]])
        width, height = self._net.side
        pixels = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
        return ((pixels.astype(np.float32) - _MEAN) / _STD).transpose(2, 0, 1)

    def _joints(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Keypoints (N, 17, 3) in pixels of the input. Raises WeightsError for the answer of another network."""
        width, height = self._net.side
        wanted = (_JOINTS, _SPLIT * width, _SPLIT * height)
        if (x.shape[1], x.shape[2], y.shape[2]) != wanted:
            raise WeightsError(
                f"{self._path} gives (joints, columns, rows) {(x.shape[1], x.shape[2], y.shape[2])}, not {wanted} "
                "(choose a body network with the 17 joints of COCO)"
            )
        places = np.stack([x.argmax(-1), y.argmax(-1)], -1) / _SPLIT
        scores = np.nan_to_num(np.minimum(x.max(-1), y.max(-1)), nan=0.0)
        return np.concatenate([places, np.clip(scores, 0, 1)[..., None]], -1).astype(np.float32)


def _crops(boxes: NDArray[np.float32], side: tuple[int, ...]) -> NDArray[np.float32]:
    """What the crop of each box (N, 4) shows (N, 3): its upper left corner, and how many pixels of the image make one
    of the input, whose (width, height) is ``side``."""
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1) * _ROOM
    scale = (size / side).max(1, keepdims=True)
    corner = (boxes[:, :2] + boxes[:, 2:]) / 2 - scale * side / 2
    return np.concatenate([corner, scale], 1).astype(np.float32)
