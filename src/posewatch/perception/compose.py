"""Masks of persons → what is visible of a frame: lost persons are held, the edge is grown and softened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch.perception.ports import Image, Masks

Mask = NDArray[np.bool_]


class Composer:
    """Keeps the last mask of each tracked person, so memory is constant. ``dilate`` and ``feather`` are pixels."""

    def __init__(self, dilate: int, feather: int) -> None:
        self._masks: dict[int, Mask] = {}
        self._grow = _disc(dilate)
        self._feather = feather

    def visible(
        self,
        shape: tuple[int, int],
        ids: Sequence[int],
        masks: Masks,
        lost: Mapping[int, tuple[int, int]],
        recalled: Mapping[int, Mask],
    ) -> Mask:
        """Visible pixels (H, W) of the next frame, from the masks (P, H, W) of the persons ``ids``.

        ``lost`` maps a person who is remembered but not found to the way (dx, dy) that the person went since the frame
        before; ``recalled`` holds masks of such persons where the segmenter knows better.
        """
        before, self._masks = self._masks, {}
        union = np.zeros(shape, bool)
        for person, step in lost.items():
            if person in recalled:
                self._masks[person] = recalled[person]
            elif person in before:
                self._masks[person] = shift(before[person], *step)
        self._masks.update(zip(ids, masks, strict=True))
        for mask in self._masks.values():
            union |= mask
        return union

    def paint(self, image: Image, visible: Mask) -> Image:
        """The picture (H, W, 3) with everything but the visible pixels (H, W), grown, black."""
        import cv2

        if not visible.any():
            return np.zeros_like(image)
        mask: NDArray[np.uint8] = visible.view(np.uint8)
        if self._grow is not None:
            mask = np.asarray(cv2.dilate(mask, self._grow), np.uint8)
        if not self._feather:
            return np.asarray(cv2.bitwise_and(image, image, mask=mask), np.uint8)
        # fades outwards only: what is surely the person stays as it is
        distance = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 3)
        share = np.clip(1 - distance / (self._feather + 1), 0, 1)[..., None]
        return np.round(image * share).astype(np.uint8)


def shift(mask: Mask, dx: int, dy: int) -> Mask:
    """The mask (H, W) moved by so many pixels; what leaves the picture is gone."""
    height, width = mask.shape
    moved = np.zeros_like(mask)
    if abs(dx) < width and abs(dy) < height:
        moved[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)] = mask[
            max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)
        ]
    return moved


def _disc(radius: int) -> NDArray[np.uint8] | None:
    if radius < 1:
        return None
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)
