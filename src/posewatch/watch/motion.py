"""A cheap look at the picture, which tells whether anything in it has changed since the network looked last."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posewatch.perception.ports import Image

SIDE, TILE = 160, 8
"""Pixels of the longer side of the picture that is compared, and of a tile: 32 of a frame that is 640 wide."""
LEAST = 1.0
"""Change of the mean of a tile, in grey levels of 255, below which nothing has moved."""
MOST = 4.0
"""From this change on something has moved near a person, however restless the picture is there."""
_DEVIATIONS = 4.0
"""Mean deviations above its usual change from which a tile has changed."""
_HABIT_S, _FIRST_S = 30.0, 2.0
"""Seconds over which a tile's usual change is learned, and after which it is known at first."""
_AROUND = 0.25
"""Of the size of a person's box: what is so close to it belongs to the person."""
_Tiles = NDArray[np.float32]


class Motion:
    """Compares frames, at ``fps`` a second, with the last one that the network looked at (``remember``).

    Each tile has a usual change, of noise, compression, leaves or a flickering lamp, which is learned while nobody is
    seen there; a tile has changed when it changes by clearly more. Near people that is never more than ``MOST``.
    """

    def __init__(self, fps: float) -> None:
        self._fps, self._frames = fps, 0
        self._learned: _Tiles | None = None
        self._seen: NDArray[np.uint8] | None = None
        self._small: NDArray[np.uint8] | None = None
        self._usual: _Tiles | None = None
        self._deviation: _Tiles | None = None

    def forget(self) -> None:
        """The next frame does not follow the last one."""
        self._seen = None

    def changed(self, image: Image, boxes: NDArray[np.float32]) -> bool:
        """Whether something has moved in the frame; ``boxes`` (P, 4) are the people seen when the network looked last.
        True for a first frame, and until it is known what is usual."""
        import cv2

        height, width = image.shape[:2]
        scale = SIDE / max(height, width)
        size = (max(TILE, round(width * scale / TILE) * TILE), max(TILE, round(height * scale / TILE) * TILE))
        self._small = np.asarray(
            cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA), np.uint8
        )
        if self._seen is None or self._seen.shape != self._small.shape:
            return True
        difference = cv2.absdiff(self._small, self._seen).astype(np.float32)
        tiles = np.asarray(
            cv2.resize(difference, (size[0] // TILE, size[1] // TILE), interpolation=cv2.INTER_AREA), np.float32
        )
        if self._usual is None or self._deviation is None or self._usual.shape != tiles.shape:
            self._usual, self._deviation, self._learned = (np.zeros_like(tiles) for _ in range(3))
            self._frames = 0
        near = _near(tiles.shape, boxes * np.float32(scale / TILE))
        limit = self._usual + np.maximum(LEAST, _DEVIATIONS * self._deviation)
        if near.any():  # what is usual there may be unknown: then it is what is usual elsewhere
            elsewhere = np.median(limit[~near]) if not near.all() else LEAST
            limit = np.where(near, np.clip(limit, elsewhere, None).clip(None, MOST), limit)
        moved = bool((tiles > limit).any())
        self._learn(tiles, near)
        return moved or self._frames <= _FIRST_S * self._fps

    def remember(self) -> None:
        """The network looks at the frame that was compared last."""
        self._seen = self._small

    def _learn(self, tiles: _Tiles, near: NDArray[np.bool_]) -> None:
        assert self._usual is not None
        assert self._deviation is not None
        assert self._learned is not None
        self._frames += 1
        self._learned += ~near
        share = np.where(near, 0, 1 / np.clip(self._learned, 1, _HABIT_S * self._fps)).astype(np.float32)
        self._usual += share * (tiles - self._usual)
        self._deviation += share * (np.abs(tiles - self._usual) - self._deviation)


def _near(shape: tuple[int, ...], boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The tiles of (rows, columns) that boxes (P, 4), in tiles, touch or nearly touch."""
    near = np.zeros(shape, bool)
    around = _AROUND * (boxes[:, 2:] - boxes[:, :2])
    low, high = np.floor(boxes[:, :2] - around), np.ceil(boxes[:, 2:] + around)
    for (x1, y1), (x2, y2) in zip(np.maximum(low, 0).astype(int), np.maximum(high, 0).astype(int), strict=True):
        near[y1:y2, x1:x2] = True
    return near
