"""Joints as the picture moves: between two frames a joint goes where the pixels under it go.

A pose network sees each frame for itself, so joints jump where nothing has moved, and are missing where people meet.
Each joint is followed from frame to frame by optical flow (Lucas and Kanade, IJCAI 1981, in pyramids), forwards and
backwards, and what is followed and what is detected are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.perception.pictures import Grey

TRUST = 0.5
"""Weight of a detected joint beside the same one followed."""
FAR = 0.25
"""A joint that is detected further away, in sizes of its body, has left the pixels that were followed."""
FADE = 0.85
"""Score of a joint that was followed and not detected, of that in the frame before; below ``LEAST`` it is gone."""
LEAST = 0.1
RETURN = 0.05
"""A joint that is followed back must come this near to where it was, in sizes of its body."""
_SIZE = 8.0
"""The smallest size of a body, in pixels of the pictures."""
_WINDOW, _LEVELS = (15, 15), 3


def steadied(keypoints: NDArray[np.float32], pictures: Sequence[Grey | None]) -> NDArray[np.float32]:
    """Keypoints (M, T, V, 3) of the T ``pictures``, steadied, in pixels of the frames; None for a frame that nobody
    kept, from which and to which nothing is followed."""
    there, back = (
        _followed(keypoints, pictures, order) for order in (range(len(pictures)), range(len(pictures))[::-1])
    )
    weight = there[..., 2:] + back[..., 2:]
    middle = (there[..., :2] * there[..., 2:] + back[..., :2] * back[..., 2:]) / np.maximum(weight, 1e-6)
    score = np.maximum(there[..., 2:], back[..., 2:])
    return np.concatenate([middle * (score > 0), score], -1, dtype=np.float32)


def _followed(
    keypoints: NDArray[np.float32], pictures: Sequence[Grey | None], order: Sequence[int]
) -> NDArray[np.float32]:
    """(M, T, V, 3) → the same in one direction of time."""
    out = keypoints.copy()
    size = np.full(len(out), np.inf, np.float32)
    for before, now in pairwise(order):
        last, found = out[:, before], keypoints[:, now]
        a, b = pictures[before], pictures[now]
        if a is None or b is None or not (last[..., 2] > 0).any():
            continue
        size = np.where((found[..., 2] > 0).sum(1) > 3, _sizes(found, a.scale), size)
        known, seen = last[..., 2] > 0, found[..., 2] > 0
        place, held = _flow(a, b, last[..., :2], known, RETURN * size)
        near = np.hypot(*np.moveaxis(found[..., :2] - place, -1, 0)) <= FAR * size[:, None]
        both = held & seen & near
        out[:, now, :, :2] = np.where(both[..., None], place + TRUST * (found[..., :2] - place), found[..., :2])
        faded = last[..., 2] * FADE
        filled = held & ~seen & (faded >= LEAST)
        out[:, now] = np.where(filled[..., None], np.concatenate([place, faded[..., None]], -1), out[:, now])
    return out


def _sizes(joints: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """The larger side of the box of each person's seen joints (M, V, 3)."""
    seen = joints[..., 2:] > 0
    low = np.where(seen, joints[..., :2], np.inf).min(1)
    high = np.where(seen, joints[..., :2], -np.inf).max(1)
    side = np.where(np.isfinite(high - low), high - low, 0).max(-1)
    return np.asarray(np.maximum(side, _SIZE / scale), np.float32)


def _flow(
    a: Grey, b: Grey, points: NDArray[np.float32], wanted: NDArray[np.bool_], near: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where ``wanted`` points (M, V, 2) of one picture are in the next, and which of them were found there: those that
    followed back come as ``near`` (M,) to where they were, or within a pixel of the pictures."""
    import cv2

    def follow(one: Grey, other: Grey, start: Any) -> tuple[Any, Any]:
        guess: Any = None
        end, status, _ = cv2.calcOpticalFlowPyrLK(
            one.pixels, other.pixels, start, guess, winSize=_WINDOW, maxLevel=_LEVELS
        )
        return end, status[:, 0] == 1

    place, held = points.copy(), np.zeros(wanted.shape, bool)
    start = np.ascontiguousarray(points[wanted] * a.scale, np.float32).reshape(-1, 1, 2)
    end, found = follow(a, b, start)
    again, returned = follow(b, a, end)
    apart = np.hypot(*(again - start)[:, 0].T)
    tolerance = np.broadcast_to(near[:, None] * a.scale, wanted.shape)[wanted]
    place[wanted] = end[:, 0] / a.scale
    held[wanted] = found & returned & (apart < np.maximum(1.0, tolerance))
    return place, held
