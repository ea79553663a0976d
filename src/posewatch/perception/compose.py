"""Masks of persons → the visible pixels of a frame: masks of lost persons are held, the edge is grown and softened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch.perception.ports import Image, Mask, Masks


class Composer:
    """Holds the last mask of each tracked person, ``masks`` by track id. ``dilate`` and ``feather`` are pixels."""

    def __init__(self, dilate: int, feather: int) -> None:
        self.masks: dict[int, Mask] = {}
        self._disc = _disc(dilate)
        self._feather = feather

    def visible(
        self,
        shape: tuple[int, int],
        ids: Sequence[int],
        masks: Masks,
        lost: Mapping[int, tuple[int, int]],
        recalled: Mapping[int, Mask],
    ) -> Mask:
        """Visible pixels (H, W) of the next frame, from the masks (P, H, W) of the track ids ``ids``.

        ``lost`` maps the track ids without a detection to their movement (dx, dy) since the frame before; ``recalled``
        holds the segmenter's own masks of some of them.
        """
        before, self.masks = self.masks, {}
        for track_id, step in lost.items():
            if track_id in recalled:
                self.masks[track_id] = recalled[track_id]
            elif track_id in before:
                self.masks[track_id] = shift(before[track_id], *step)
        self.masks.update(zip(ids, masks, strict=True))
        return np.logical_or.reduce([np.zeros(shape, bool), *self.masks.values()])

    def paint(self, image: Image, visible: Mask) -> Image:
        """The image (H, W, 3) with everything black but the visible pixels (H, W) and their grown edge."""
        import cv2

        if not visible.any():
            return np.zeros_like(image)
        mask: NDArray[np.uint8] = visible.view(np.uint8)
        if self._disc is not None:
            mask = np.asarray(cv2.dilate(mask, self._disc), np.uint8)
        if not self._feather:
            return np.asarray(cv2.bitwise_and(image, image, mask=mask), np.uint8)
        # the edge fades outwards only: pixels of the mask stay as they are
        distance = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 3)
        opacity = np.clip(1 - distance / (self._feather + 1), 0, 1)[..., None]
        return np.round(image * opacity).astype(np.uint8)


def shift(mask: Mask, dx: int, dy: int) -> Mask:
    """The mask (H, W) moved by (dx, dy) pixels; what leaves the image is cut off."""
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
