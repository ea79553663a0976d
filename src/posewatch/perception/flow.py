"""How the pixels of people move: ten numbers a person and frame, from the optical flow of the raw pictures.

Where two people are in a clinch, in the dark or far away, a pose network sees little; that something moves fast and
every way is in the pixels all the same. The flow from each picture to the next (dense inverse search, arXiv 1603.03590,
without the motion of the whole picture) is looked at in the box of each person's joints. The numbers are no pictures:
nobody can be known by them. In masked video they tell nothing, since the edge of a mask flickers more than people move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.config import PoseConfig
from posewatch.datasets.layouts import FLOW
from posewatch.perception.pictures import Grey
from posewatch.perception.steady import steadied

NUMBERS = (
    "speed", "fast speed", "own speed", "fast own speed", "directions", "spreading", "turning", "change", "drift",
    "share that moves",
)  # fmt: skip
"""Of the pixels in a person's box: the mean and the 90 % quantile of their speed; the same without the mean motion of
the box; entropy of their directions; mean size of divergence and curl; mean change of brightness; speed of the mean
motion; share whose own speed is above ``MOVES``. Speeds are body sizes a second, all are times 100, two a column."""
MOVES = 0.5
GAP = 3
"""Frames to the next picture, at most."""
KEPT = 40
"""Pictures whose dense flow is remembered, half a megabyte each; the numbers of all frames of a clip are."""
_UNIT = 100.0
_MOST = 2000.0
"""The largest number that is told: a model may take coordinates in 16 bits (``inference/quantised.py``)."""
_GRID, _MARGIN, _LEAST, _JOINTS = 32, 0.15, 8.0, 4
"""Cells of a box, either way; what it is larger than the joints, in sizes of the body; the smallest size of a body in
pixels of the pictures; joints that must be seen."""
_BINS, _SMALL = 8, 16
"""Directions that are told apart; pixels that a picture has at least, either way."""

Flow = NDArray[np.float16]


class Meter:
    """Measures the flow of people in one video at ``fps``; what was computed for one clip serves the next."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._flows: dict[tuple[int, int], tuple[Flow, NDArray[np.uint8]]] = {}
        self._known: dict[tuple[int, ...], NDArray[np.float32]] = {}
        self._network: Any = None

    def measure(
        self, first: int, keypoints: NDArray[np.float32], pictures: Sequence[Grey | None]
    ) -> NDArray[np.float32]:
        """Keypoints (M, T, V, 3) of the frames from number ``first`` on, and their pictures → (M, T, FLOW, 3): two
        numbers a column, and 1 where they were measured. The last frame, frames before a gap and people of whom little
        is seen have none. Clips come in the order of their first frames."""
        self._flows = {key: flow for key, flow in self._flows.items() if key[0] >= first}
        self._known = {key: numbers for key, numbers in self._known.items() if key[0] >= first}
        out = np.zeros((*keypoints.shape[:2], FLOW, 3), np.float32)
        for t, picture in enumerate(pictures):
            seen = keypoints[:, t, :, 2] > 0
            people = np.flatnonzero(seen.sum(1) >= _JOINTS)
            ahead = _ahead(t, pictures) if len(people) else 0
            if picture is None or not ahead:
                continue
            number = first + t, ahead
            for m in people:
                box = _box(keypoints[m, t, seen[m], :2] * picture.scale)
                if (*number, *box) not in self._known:
                    self._known[*number, *box] = self._numbers(*self._flow(number, pictures, t), ahead, box)
                out[m, t, :, :2] = self._known[*number, *box].reshape(FLOW, 2)
                out[m, t, :, 2] = 1
        return out

    def _flow(self, number: tuple[int, int], pictures: Sequence[Grey | None], t: int) -> tuple[Flow, NDArray[np.uint8]]:
        """The flow from picture ``t`` to the next in pixels (H, W, 2), and the change of brightness; ``number`` is that
        of the frame, and how many frames ahead the next one is."""
        import cv2

        if number not in self._flows:
            here, there = pictures[t], pictures[t + number[1]]
            assert here is not None
            assert there is not None
            if self._network is None:
                self._network = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
            flow = self._network.calc(here.pixels, there.pixels, None)
            flow = flow - np.median(flow[::4, ::4].reshape(-1, 2), 0)
            change = np.asarray(cv2.absdiff(here.pixels, there.pixels), np.uint8)
            while len(self._flows) >= KEPT:
                del self._flows[next(iter(self._flows))]
            self._flows[number] = flow.astype(np.float16), change
        return self._flows[number]

    def _numbers(
        self, flow: Flow, change: NDArray[np.uint8], frames: int, box: tuple[int, int, int, int, int]
    ) -> NDArray[np.float32]:
        """The ten numbers of a ``box``: left, top, right, bottom and the size of the body."""
        import cv2

        left, top, right, bottom, size = box
        left, top = max(0, left), max(0, top)
        part = np.ascontiguousarray(flow[top:bottom, left:right], np.float32)
        if not part.size:
            return np.zeros(2 * FLOW, np.float32)
        rate = self._fps / frames
        grid = cv2.resize(part, (_GRID, _GRID), interpolation=cv2.INTER_AREA) * (rate / size)
        brightness = change[top:bottom, left:right].mean() * rate
        speed = np.hypot(grid[..., 0], grid[..., 1])
        body = grid.reshape(-1, 2).mean(0)
        own = np.hypot(*np.moveaxis(grid - body, -1, 0))
        angle = np.arctan2(grid[..., 1], grid[..., 0]).ravel()
        bins = np.clip(((angle + np.pi) * (_BINS / (2 * np.pi))).astype(int), 0, _BINS - 1)
        share = np.bincount(bins, speed.ravel(), _BINS) / (speed.sum() + 1e-6)
        across, down = np.diff(grid, axis=1)[:-1], np.diff(grid, axis=0)[:, :-1]
        fast = int(0.9 * speed.size)
        numbers = (
            speed.mean(), np.partition(speed.ravel(), fast)[fast], own.mean(), np.partition(own.ravel(), fast)[fast],
            -(share * np.log(share + 1e-9)).sum(), np.abs(across[..., 0] + down[..., 1]).mean(),
            np.abs(across[..., 1] - down[..., 0]).mean(), brightness / _UNIT, np.hypot(*body), (own > MOVES).mean(),
        )  # fmt: skip
        return np.clip(np.array(numbers, np.float32) * _UNIT, 0, _MOST)


def by_pixels(
    first: int,
    keypoints: NDArray[np.float32],
    pictures: Sequence[Grey | None],
    config: PoseConfig,
    meter: Meter | None,
) -> NDArray[np.float32]:
    """Keypoints (M, T, V, 3) of the frames from number ``first`` on, steadied where ``config`` wants it, with the
    columns of flow where there is a ``meter``."""
    if config.steady:
        keypoints = steadied(keypoints, pictures)
    return keypoints if meter is None else np.concatenate([keypoints, meter.measure(first, keypoints, pictures)], 2)


def _ahead(t: int, pictures: Sequence[Grey | None]) -> int:
    """How many frames after ``t`` the next picture of the same shape is, at most ``GAP``; 0: there is none."""
    here = pictures[t]
    if here is None or min(here.pixels.shape) < _SMALL:
        return 0
    for ahead, there in enumerate(pictures[t + 1 : t + 1 + GAP], 1):
        if there is not None:
            return ahead if there.pixels.shape == here.pixels.shape else 0
    return 0


def _box(joints: NDArray[np.float32]) -> tuple[int, int, int, int, int]:
    """Joints (J, 2) in pixels of the pictures → left, top, right, bottom and the size of the body, in whole pixels."""
    low, high = joints.min(0), joints.max(0)
    size = max(_LEAST, float((high - low).max()))
    margin = _MARGIN * size
    (left, top), (right, bottom) = np.floor(low - margin).astype(int), np.ceil(high + margin).astype(int)
    return int(left), int(top), int(right), int(bottom), round(size)
