"""How the pixels of people move: ten numbers a person and frame, and ten of where most moves in the scene.

Where two people are in a clinch, in the dark or far away, a pose network sees little; that something moves fast and
every way is in the pixels all the same. The flow from each picture to the next (dense inverse search, arXiv 1603.03590,
without the motion of the whole picture) is looked at in the box of each person's joints, and, because those who fight
are often not those whose joints were found, in the one place of the picture, as large as a person, where most moves in
the clip. The numbers are no pictures: nobody can be known by them. In masked video they tell nothing, since the edge of
a mask flickers more than people move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.config import PoseConfig
from posewatch.datasets.layouts import FLOW, OF_PERSON
from posewatch.perception.pictures import Grey
from posewatch.perception.steady import steadied

NUMBERS = (
    "speed", "fast speed", "own speed", "fast own speed", "directions", "spreading", "turning", "change", "drift",
    "share that moves",
)  # fmt: skip
"""Of the pixels in a box: the mean and the 90 % quantile of their speed; the same without the mean motion of
the box; entropy of their directions; mean size of divergence and curl; mean change of brightness; speed of the mean
motion; share whose own speed is above ``MOVES``. Speeds are body sizes a second, all are times 100, two a column."""
MOVES = 0.5
GAP = 3
"""Frames to the next picture, at most."""
KEPT = 16
"""Pictures whose dense flow is remembered, a megabyte each; the coarse flow and the numbers of all frames of a clip
are."""
_UNIT = 100.0
_MOST = 2000.0
"""The largest number that is told: a model may take coordinates in 16 bits (``inference/quantised.py``)."""
_GRID, _MARGIN, _LEAST, _JOINTS = 32, 0.15, 8.0, 4
"""Cells of a box, either way; what it is larger than the joints, in sizes of the body; the smallest size of a body in
pixels of the pictures; joints that must be seen."""
_BINS, _SMALL = 8, 32
"""Directions that are told apart; pixels that a picture has at least, either way: of a strip that is narrower, OpenCV
5.0 reads and writes beyond its memory (the coarsest of its scales is then below the finest)."""
_COARSE, _CELLS = 4, 3
"""Pixels of a cell of the coarse flow, in which the place is looked for; its smallest size in cells."""
_SLOW = 0.1
"""Body sizes a second up to which motion counts in proportion, where most moves is looked for; faster motion counts as
its logarithm, so that what goes on moving counts more than one fast step."""

Flow = NDArray[np.float32]
Change = NDArray[np.uint8]
Box = tuple[int, int, int, int, int]
"""Left, top, right, bottom and the size of the body, in whole pixels or cells."""


class Meter:
    """Measures the flow of people in one video at ``fps``; what was computed for one clip serves the next."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._flows: dict[tuple[int, int], tuple[Flow, Change]] = {}
        self._coarse: dict[tuple[int, int], tuple[Flow, Change]] = {}
        self._known: dict[tuple[int, ...], NDArray[np.float32]] = {}
        self._network: Any = None

    def measure(
        self, first: int, keypoints: NDArray[np.float32], pictures: Sequence[Grey | None], alone: bool = False
    ) -> NDArray[np.float32]:
        """Keypoints (M, T, V, 3) of the frames from number ``first`` on, and their pictures → (M, T, FLOW, 3): two
        numbers a column, and 1 where they were measured. The last frame and frames before a gap have none.

        The first ``OF_PERSON`` columns are of the person's box, and not measured where little of the person is seen.
        The others are of the place where most moves, the same for everybody who is seen in the clip; with ``alone`` the
        M persons are clips of their own, and the place is near each. Clips come in the order of their first frames.
        """
        for known in (self._flows, self._coarse, self._known):
            for key in [key for key in known if key[0] < first]:
                del known[key]  # type: ignore[arg-type]
        out = np.zeros((*keypoints.shape[:2], FLOW, 3), np.float32)
        seen = keypoints[..., 2] > 0
        there = seen.sum(2) >= _JOINTS
        if not there.any():
            return out
        boxes: dict[tuple[int, int], Box] = {}
        moves: dict[tuple[int, ...], list[_Move]] = {}
        for t, picture in enumerate(pictures):
            ahead = _ahead(t, pictures)
            if picture is None or not ahead:
                continue
            number = first + t, ahead
            move = _Move(t, self._fps / ahead, *self._coarsely(number, pictures, t))
            moves.setdefault(move.flow.shape, []).append(move)  # a camera's shape may change
            for m in np.flatnonzero(there[:, t]).tolist():
                box = boxes[m, t] = _box(keypoints[m, t, seen[m, t], :2] * picture.scale)
                if (key := (*number, *box)) not in self._known:
                    self._known[key] = _numbers(*self._flow(number, pictures, t), move.rate, box)
                out[m, t, :OF_PERSON] = _told(self._known[key])
        present = np.flatnonzero(seen.any((1, 2))).tolist()
        for group in [[m] for m in present] if alone else [present]:
            for alike in moves.values():
                own = [boxes[m, move.t] for m in group for move in alike if there[m, move.t]]
                if not own:
                    continue
                place = _place(alike, own, alone)
                for move in alike:
                    found = _told(_numbers(move.flow, move.change, move.rate, place))
                    out[group, move.t, OF_PERSON:] = found
        return out

    def _coarsely(self, number: tuple[int, int], pictures: Sequence[Grey | None], t: int) -> tuple[Flow, Change]:
        """``_flow`` in cells of ``_COARSE`` pixels, which is remembered for all frames of a clip."""
        import cv2

        if number not in self._coarse:
            flow, change = self._flow(number, pictures, t)
            size = (round(flow.shape[1] / _COARSE), round(flow.shape[0] / _COARSE))
            small = np.asarray(cv2.resize(flow, size, interpolation=cv2.INTER_AREA) / _COARSE, np.float32)
            change = np.asarray(cv2.resize(change, size, interpolation=cv2.INTER_AREA), np.uint8)
            self._coarse[number] = small, change
        return self._coarse[number]

    def _flow(self, number: tuple[int, int], pictures: Sequence[Grey | None], t: int) -> tuple[Flow, Change]:
        """The flow from picture ``t`` to the next in pixels (H, W, 2), and the change of brightness; ``number`` is that
        of the frame, and how many frames ahead the next one is."""
        if number not in self._flows:
            here, there = pictures[t], pictures[t + number[1]]
            assert here is not None
            assert there is not None
            while len(self._flows) >= KEPT:
                del self._flows[next(iter(self._flows))]
            self._flows[number] = self._compute(here.pixels, there.pixels)
        return self._flows[number]

    def _compute(self, here: NDArray[np.uint8], there: NDArray[np.uint8]) -> tuple[Flow, Change]:
        import cv2

        if self._network is None:
            self._network = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        flow = np.asarray(self._network.calc(here, there, None), np.float32)
        flow -= np.median(flow[::4, ::4].reshape(-1, 2), 0)
        return flow, np.asarray(cv2.absdiff(here, there), np.uint8)


def _told(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ten numbers → (OF_PERSON, 3): two a column, and 1 because they were measured."""
    return np.concatenate([numbers.reshape(-1, 2), np.ones((OF_PERSON, 1), np.float32)], 1)


def _numbers(flow: Flow, change: Change, rate: float, box: Box) -> NDArray[np.float32]:
    """The ten numbers of a ``box``; ``rate`` times the flow is that of a second."""
    import cv2

    left, top, right, bottom, size = box
    left, top = max(0, left), max(0, top)
    part = np.ascontiguousarray(flow[top:bottom, left:right])
    if not part.size:
        return np.zeros(len(NUMBERS), np.float32)
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


@dataclass(frozen=True)
class _Move:
    """What moves from frame ``t`` of a clip to the next picture: coarse ``flow`` and ``change``; times ``rate``, in a
    second."""

    t: int
    rate: float
    flow: Flow
    change: Change

    def steps(self, size: float) -> NDArray[np.float32]:
        """Speed (H, W) in bodies of ``size`` cells a second, from ``_SLOW`` on its logarithm."""
        speed = np.hypot(self.flow[..., 0], self.flow[..., 1])
        return np.log1p(speed * np.float32(self.rate / (size * _SLOW)))


def _place(moves: Sequence[_Move], boxes: Sequence[Box], near: bool) -> Box:
    """The place in cells, as large as people are in ``boxes`` (pixels), where most moves; with ``near`` no farther from
    a box than half of that."""
    import cv2

    height, width = moves[0].flow.shape[:2]
    size = max(float(np.median([box[4] for box in boxes])) / _COARSE, float(_CELLS))
    moving = np.mean([move.steps(size) for move in moves], 0)
    if near:
        close = np.zeros((height, width), bool)
        for left, top, right, bottom, _ in boxes:
            low, high = np.array([left, top]) / _COARSE - size / 2, np.array([right, bottom]) / _COARSE + size / 2
            (x, y), (x2, y2) = np.maximum(low, 0).astype(int), np.maximum(high, 0).astype(int)
            close[y : y2 + 1, x : x2 + 1] = True
        moving = moving * close
    side = round(min(size, height, width))
    # outside of the picture nothing moves, so that the place lies in it
    total = cv2.boxFilter(moving, -1, (side, side), borderType=cv2.BORDER_CONSTANT)
    y, x = np.unravel_index(int(total.argmax()), total.shape)
    left = int(np.clip(x - side // 2, 0, width - side))
    top = int(np.clip(y - side // 2, 0, height - side))
    return left, top, left + side, top + side, round(size)


def by_pixels(
    first: int,
    keypoints: NDArray[np.float32],
    pictures: Sequence[Grey | None],
    config: PoseConfig,
    meter: Meter | None,
    alone: bool = False,
) -> NDArray[np.float32]:
    """Keypoints (M, T, V, 3) of the frames from number ``first`` on, steadied where ``config`` wants it, with the
    columns of flow where there is a ``meter``. ``alone``: see ``Meter.measure``."""
    if config.steady:
        keypoints = steadied(keypoints, pictures)
    if meter is None:
        return keypoints
    return np.concatenate([keypoints, meter.measure(first, keypoints, pictures, alone)], 2)


def _ahead(t: int, pictures: Sequence[Grey | None]) -> int:
    """How many frames after ``t`` the next picture of the same shape is, at most ``GAP``; 0: there is none."""
    here = pictures[t]
    if here is None or min(here.pixels.shape) < _SMALL:
        return 0
    for ahead, there in enumerate(pictures[t + 1 : t + 1 + GAP], 1):
        if there is not None:
            return ahead if there.pixels.shape == here.pixels.shape else 0
    return 0


def _box(joints: NDArray[np.float32]) -> Box:
    """Joints (J, 2) in pixels of the pictures → their box."""
    low, high = joints.min(0), joints.max(0)
    size = max(_LEAST, float((high - low).max()))
    margin = _MARGIN * size
    (left, top), (right, bottom) = np.floor(low - margin).astype(int), np.ceil(high + margin).astype(int)
    return int(left), int(top), int(right), int(bottom), round(size)
