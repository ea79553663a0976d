"""Each person alone on black, as a small square video that follows the person: one file per person and appearance."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from posewatch.files import write_atomically
from posewatch.perception.ports import Image, Mask, Masks
from posewatch.records import Detections
from posewatch.video import Writer

_MARGIN = 1.2
_SMOOTHING = 0.5
"""Weight of the frame before in the position and size of the view, so that the view does not tremble."""


@dataclass
class _Appearance:
    """One person over consecutive frames; ``view`` is centre x, centre y and side in pixels."""

    writer: Writer
    first: int
    view: NDArray[np.float64]


class CropWriter:
    """Writes ``person-<track id>-<first frame>.mp4`` and ``crops.json`` (file, person, first, frames) into ``folder``.

    A context manager. ``side`` is the size of the images in pixels. A person who is not detected in a frame ends the
    file; files of fewer than ``min_frames`` frames are deleted.
    """

    def __init__(self, folder: Path, fps: float, side: int = 256, min_frames: int = 5) -> None:
        self._folder, self._fps, self._side, self._min_frames = folder, fps, side, min_frames
        self._open: dict[int, _Appearance] = {}
        self._rows: list[dict[str, int | str]] = []
        self._frame = 0

    def __enter__(self) -> CropWriter:
        return self

    def write(self, image: Image, persons: Detections, masks: Masks) -> None:
        """The next frame (H, W, 3) with its tracked persons and their masks (P, H, W)."""
        ids = [] if persons.ids is None else [int(i) for i in persons.ids]
        for person in [p for p in self._open if p not in ids]:
            self._end(person)
        for person, box, mask in zip(ids, persons.boxes, masks, strict=True):
            self._add(person, image, box, mask)
        self._frame += 1

    def _add(self, person: int, image: Image, box: NDArray[np.float32], mask: Mask) -> None:
        import cv2

        size = max(float(box[2] - box[0]), float(box[3] - box[1]), 16.0) * _MARGIN
        view = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, size], float)
        if person not in self._open:
            path = self._folder / f"person-{person:04d}-{self._frame:06d}.mp4"
            writer = Writer(path, self._fps, (self._side, self._side)).__enter__()
            self._open[person] = _Appearance(writer, self._frame, view)
        appearance = self._open[person]
        appearance.view = _SMOOTHING * appearance.view + (1 - _SMOOTHING) * view
        x, y, span = appearance.view
        scale = self._side / span
        matrix = np.array([[scale, 0, self._side / 2 - scale * x], [0, scale, self._side / 2 - scale * y]])
        alone = cv2.bitwise_and(image, image, mask=mask.view(np.uint8))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        appearance.writer.write(
            np.asarray(cv2.warpAffine(alone, matrix, (self._side, self._side), flags=how), np.uint8)
        )

    def _end(self, person: int) -> None:
        appearance = self._open.pop(person)
        writer = appearance.writer
        writer.__exit__(None, None, None)
        if writer.frames < self._min_frames:
            writer.path.unlink()
            return
        self._rows.append(
            {"file": writer.path.name, "person": person, "first": appearance.first, "frames": writer.frames}
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for appearance in self._open.values():
                appearance.writer.__exit__(kind, error, trace)
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        for person in sorted(self._open):
            self._end(person)
        rows = sorted(self._rows, key=lambda r: str(r["file"]))
        write_atomically(self._folder / "crops.json", json.dumps(rows, indent=1) + "\n")
