"""What the segmenters of the SAM family share: boxes prompt masks, a memory propagates them from frame to frame, and
masks that have failed are put right.

A person's box is the prompt when the person appears, every ``reprompt`` frames, and when mask and box disagree. The
memory begins anew with every shard of the video, so its size does not grow with the length of the video.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch.perception.networks.boxes import BoxSegmenter
from posewatch.perception.ports import Image, Mask, Masks, Segmenter
from posewatch.perception.tracking.matching import iou
from posewatch.records import Detections

Boxes = NDArray[np.float32]

_AGREE = 0.5
"""IoU of the mask's box and the detector's below which the person is prompted again."""
_LEAST_FILL = 0.05
"""A mask that fills less of its box has failed, and the box takes its place."""
_ROOM = 0.2
"""Share of its sides by which a mask may extend beyond its box."""


class PromptedSegmenter(Segmenter, ABC):
    """Masks by a network with a memory. ``frame`` is the number of the frame since the last ``begin``."""

    def __init__(self, reprompt: int) -> None:
        self._reprompt = reprompt
        self._masks: dict[int, Mask] = {}
        """Track id → mask in the last frame."""
        self._prompted: dict[int, int] = {}
        """Track id → frame of the last prompt."""
        self.frame = -1
        self.prompts = 0
        """Number of prompts so far."""

    @abstractmethod
    def forget(self) -> None:
        """Empty the memory."""

    @abstractmethod
    def look(self, image: Image, ids: list[int], boxes: Boxes) -> dict[int, Mask]:
        """Masks (H, W) of all persons in the memory by track id, in the frame, which is new; first the persons ``ids``
        are prompted with ``boxes`` (N, 4). Nobody may be in the memory."""

    @abstractmethod
    def correct(self, image: Image, ids: list[int], boxes: Boxes) -> dict[int, Mask]:
        """The same in the frame looked at last, after prompting these persons again."""

    def begin(self) -> None:
        """Forget all persons; the next image begins a new memory."""
        self.frame, self._masks, self._prompted = -1, {}, {}
        self.forget()

    def segment(self, image: Image, detections: Detections) -> Masks:
        """Masks (P, H, W); without ``detections.ids`` each image is segmented by itself."""
        if detections.ids is None:
            self.begin()
        ids = list(range(len(detections))) if detections.ids is None else [int(i) for i in detections.ids]
        self.frame += 1
        new = [k for k, i in enumerate(ids) if self.frame - self._prompted.get(i, -(10**9)) >= self._reprompt]
        self._masks = self.look(image, *self._prompt(new, ids, detections.boxes))
        if wrong := [k for k, i in enumerate(ids) if k not in new and not self._agrees(i, detections.boxes[k])]:
            self._masks = self.correct(image, *self._prompt(wrong, ids, detections.boxes))
        return trusted(image, [self._masks[i] for i in ids], detections)

    def recall(self, track_ids: Sequence[int]) -> dict[int, Mask]:
        return {i: self._masks[i] for i in track_ids if i in self._masks}

    def _prompt(self, chosen: list[int], ids: list[int], boxes: Boxes) -> tuple[list[int], Boxes]:
        """The track ids and boxes of the persons chosen for a prompt."""
        self._prompted |= {ids[k]: self.frame for k in chosen}
        self.prompts += len(chosen)
        return [ids[k] for k in chosen], boxes[chosen]

    def _agrees(self, track_id: int, box: Boxes) -> bool:
        around = _box_of(self._masks[track_id])
        return around is not None and float(iou(around[None], box[None])[0, 0]) >= _AGREE


def trusted(image: Image, masks: Sequence[Mask], detections: Detections) -> Masks:
    """The masks (P, H, W) of the detected persons, cut off a little beyond their boxes; a mask that has failed becomes
    the box."""
    boxes = BoxSegmenter().segment(image, detections)
    if not len(detections):
        return boxes
    good = np.stack(masks) & BoxSegmenter().segment(image, Detections(_grow(detections.boxes), detections.scores))
    for mask, box in zip(good, boxes, strict=True):
        if (mask & box).sum() < _LEAST_FILL * box.sum():
            mask[:] = box
    return good


def _box_of(mask: Mask) -> Boxes | None:
    """The box (4,) around a mask (H, W), None for an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def _grow(boxes: Boxes) -> Boxes:
    """Boxes (P, 4) with ``_ROOM`` added on each side."""
    room = _ROOM * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate([boxes[:, :2] - room, boxes[:, 2:] + room], 1).astype(np.float32)
