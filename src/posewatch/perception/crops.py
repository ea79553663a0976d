"""Each person alone on black, as a small square video that follows the person: one file per person and appearance."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from posewatch.perception.ports import Image, Masks
from posewatch.records import Detections
from posewatch.video import Writer

_ROOM = 1.2
_SLOW = 0.5
"""Share of the frame before in the place and size of the view, so that it does not tremble."""


@dataclass
class _Appearance:
    """One person from where he is first to where he is last seen; ``view`` is centre x, centre y, side in pixels."""

    writer: Writer
    first: int
    view: NDArray[np.float64]


class CropWriter:
    """Writes ``person-<id>-<first frame>.mp4`` and ``crops.json`` (file, person, first frame, frames) into ``folder``.

    A context manager; ``side`` is the size of the pictures in pixels. A person who is not found in a frame ends the
    file; shorter ones than ``least`` frames are dropped.
    """

    def __init__(self, folder: Path, fps: float, side: int = 256, least: int = 5) -> None:
        self._folder, self._fps, self._side, self._least = folder, fps, side, least
        self._open: dict[int, _Appearance] = {}
        self._rows: list[dict[str, int | str]] = []
        self._frame = 0

    def __enter__(self) -> CropWriter:
        return self

    def write(self, image: Image, persons: Detections, masks: Masks) -> None:
        """The next frame (H, W, 3) with its numbered persons and their masks (P, H, W)."""
        ids = [] if persons.ids is None else [int(i) for i in persons.ids]
        for person in [p for p in self._open if p not in ids]:
            self._end(person)
        for person, box, mask in zip(ids, persons.boxes, masks, strict=True):
            self._add(person, image, box, mask)
        self._frame += 1

    def _add(self, person: int, image: Image, box: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        import cv2

        size = max(float(box[2] - box[0]), float(box[3] - box[1]), 16.0) * _ROOM
        view = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, size], float)
        if person not in self._open:
            path = self._folder / f"person-{person:04d}-{self._frame:06d}.mp4"
            writer = Writer(path, self._fps, (self._side, self._side))
            writer.__enter__()
            self._open[person] = _Appearance(writer, self._frame, view)
        at = self._open[person]
        at.view = _SLOW * at.view + (1 - _SLOW) * view
        x, y, span = at.view
        scale = self._side / span
        matrix = np.array([[scale, 0, self._side / 2 - scale * x], [0, scale, self._side / 2 - scale * y]])
        alone = cv2.bitwise_and(image, image, mask=mask.view(np.uint8))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        at.writer.write(np.asarray(cv2.warpAffine(alone, matrix, (self._side, self._side), flags=how), np.uint8))

    def _end(self, person: int) -> None:
        at = self._open.pop(person)
        at.writer.__exit__(None, None, None)
        if at.writer.frames < self._least:
            at.writer.path.unlink()
            return
        name, frames = at.writer.path.name, at.writer.frames
        self._rows.append({"file": name, "person": person, "first": at.first, "frames": frames})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for at in self._open.values():
                at.writer.__exit__(kind, error, trace)
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        for person in sorted(self._open):
            self._end(person)
        self._folder.mkdir(parents=True, exist_ok=True)
        temp = self._folder / ".crops.json.part"
        temp.write_text(json.dumps(sorted(self._rows, key=lambda r: str(r["file"])), indent=1) + "\n", encoding="utf-8")
        os.replace(temp, self._folder / "crops.json")
