"""Which pixels of a frame are whose: masks of several persons that overlap, made separate where that can be told."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from posewatch.perception.ports import Mask

_OWN = 0.2
"""A person whose mask lies in the others' but for less than this share was taken in by theirs: all of it is theirs."""
_BEHIND = 0.5
"""Share of a lost person's mask below which nothing of it is shown beside those in sight."""
_BOXES = 0.5
"""Share of the smaller box from which two persons overlap a lot."""
_MASKS = 0.2
"""The same of the smaller mask."""


def separated(masks: Mapping[int, Mask], held: Mapping[int, Mask]) -> dict[int, Mask]:
    """Track id → mask (H, W) without the pixels of the others, of persons in sight (``masks``) and lost (``held``).

    A pixel of several masks belongs to the person whose pixels that are nobody else's lie nearest, and to a person who
    has next to none of those before the others: another's mask took that person in. What two persons claim alike stays
    in both. Of a lost person, whose mask is a memory, nothing remains where somebody is in sight; and nothing at all
    when that is most of it: what looks out from behind somebody would be a rim of the room.
    """
    import cv2

    if not masks:
        return dict(held)
    stack = np.stack([*masks.values()])
    claims = stack.sum(0, dtype=np.uint16)
    contested = claims > 1
    if contested.any():
        distance = np.full(stack.shape, np.inf, np.float32)
        for i, mask in enumerate(stack):
            if (mask & contested).any():
                own = mask & ~contested
                if own.sum() < _OWN * mask.sum():
                    distance[i][mask] = -1
                else:
                    distance[i][mask] = cv2.distanceTransform(1 - own.view(np.uint8), cv2.DIST_L2, 3)[mask]
        stack &= ~contested | (distance <= distance.min(0))
    seen = claims > 0
    rest = {person: mask & ~seen for person, mask in held.items()}
    for person, mask in rest.items():
        if mask.sum() < _BEHIND * held[person].sum():
            mask[:] = False
    return {**dict(zip(masks, stack, strict=True)), **rest}


def overlapping(masks: Mapping[int, Mask], boxes: Mapping[int, NDArray[np.float32]]) -> set[tuple[int, int]]:
    """The pairs (smaller id first) of persons who overlap a lot, by their masks (H, W), or by the boxes (4,) of those
    who have one."""
    places = {person: _box(mask) for person, mask in masks.items()}
    sizes = {person: int(mask.sum()) for person, mask in masks.items()}
    found = set()
    order = sorted(masks)
    for i, a in enumerate(order):
        for b in order[i + 1 :]:
            if a in boxes and b in boxes and _shared(boxes[a], boxes[b]) >= _BOXES:
                found.add((a, b))
            elif min(sizes[a], sizes[b]) and _shared(places[a], places[b]) > 0:
                both = np.count_nonzero(masks[a] & masks[b])
                if both >= _MASKS * min(sizes[a], sizes[b]):
                    found.add((a, b))
    return found


def _box(mask: Mask) -> NDArray[np.float32]:
    """The box (4,) around a mask; empty for an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def _shared(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Area that two boxes (4,) share, as a share of the smaller one."""
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    areas = [float(np.prod(np.clip(box[2:] - box[:2], 0, None))) for box in (a, b)]
    return float(np.prod(sides)) / max(min(areas), 1e-6)
