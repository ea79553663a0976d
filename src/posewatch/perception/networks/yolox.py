"""YOLOX (Ge et al., arXiv 2107.08430) on ONNX Runtime: persons' boxes.

The contract is that of the ONNX files in Megvii's release 0.1.1rc0: input (N, 3, H, W) float32, BGR from 0 to 255, the
image fitted into the top left corner on grey 114; output (N, cells, 5 + classes), the cells of strides 8, 16 and 32 one
after another, row by row: centre x, y relative to the cell and log of width, height, all in strides; then how likely
there is an object, and each class. Class 0 is the person, in COCO as in a network that knows people only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch import weights
from posewatch.errors import WeightsError
from posewatch.perception.networks.onnx_runtime import Network, letterbox
from posewatch.perception.ports import Image
from posewatch.perception.tracking.matching import iou, suppress
from posewatch.records import Detections

_STRIDES = (8, 16, 32)
_PERSON = 0
_MOST = 300
"""Boxes that are looked at for duplicates, best first."""
_FAR = 32
"""Strides from its cell that no centre lies away on average: pixels were given, not strides."""


class YoloxDetector:
    """Persons, best first. ``floor`` is the lowest score reported. Of two boxes with an IoU above ``overlap`` the
    weaker one is a duplicate."""

    name = "yolox"

    def __init__(self, which: str, device: str = "auto", floor: float = 0.1, overlap: float = 0.45) -> None:
        self.weights = weights.records([which])
        self._path = weights.path(which)
        self._net = Network(self._path, device, free=(640, 640))
        self._floor, self._overlap = floor, overlap
        self._cells, self._strides = _grid(self._net.side)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        found: list[Detections] = []
        for i in range(0, len(images), self._net.batch):
            some = images[i : i + self._net.batch]
            fitted = [letterbox(image, self._net.side, int) for image in some]
            (rows,) = self._net.run(np.stack([array for array, _ in fitted]), self._net.outputs[:1])
            self._check(rows)
            found += [self._persons(r, scale, image) for r, image, (_, scale) in zip(rows, some, fitted, strict=True)]
        return found

    def _check(self, rows: NDArray[np.float32]) -> None:
        """Raises WeightsError for another contract."""
        if rows.ndim != 3 or rows.shape[1] != len(self._cells) or rows.shape[2] < 6:
            raise WeightsError(
                f"{self._path} is not a YOLOX network: it gives {rows.shape[1:]} for {self._net.side[0]}x"
                f"{self._net.side[1]} pixels, not ({len(self._cells)}, 5 + classes) (take a file of its release)"
            )
        if np.abs(rows[..., :2]).mean() > _FAR:
            raise WeightsError(f"{self._path} gives boxes in pixels (export it without --decode_in_inference)")

    def _persons(self, rows: NDArray[np.float32], scale: float, image: Image) -> Detections:
        """Rows (cells, 5 + classes) of the network → persons in pixels of the image; rows with NaN are dropped."""
        scores = rows[:, 4] * rows[:, 5 + _PERSON]
        likely = (scores >= self._floor) & (rows[:, 5:].argmax(1) == _PERSON) & np.isfinite(rows).all(1)
        best = np.flatnonzero(likely)
        best = best[np.argsort(-scores[best], kind="stable")][:_MOST]
        strides = self._strides[best, None]
        centres, sizes = (rows[best, :2] + self._cells[best]) * strides, np.exp(rows[best, 2:4]) * strides
        boxes = (np.concatenate([centres - sizes / 2, centres + sizes / 2], 1) / scale).astype(np.float32)
        scores = scores[best]
        selected = suppress(scores, iou(boxes, boxes) > self._overlap)
        height, width = image.shape[:2]
        boxes = np.clip(boxes[selected], 0, [width, height, width, height]).astype(np.float32)
        return Detections(boxes, np.clip(scores[selected], 0, 1).astype(np.float32))


def _grid(side: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row (cells, 2) and stride (cells,) of all cells of an input of that (width, height)."""
    cells, strides = [], []
    for stride in _STRIDES:
        y, x = np.mgrid[: side[1] // stride, : side[0] // stride]
        cells.append(np.stack([x.ravel(), y.ravel()], 1))
        strides.append(np.full(x.size, stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)
