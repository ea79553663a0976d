"""Each tracked person of a video alone on black, as a video of their own, and in persons.json what is known of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError
from posewatch.files import write_atomically
from posewatch.perception.ports import Image, Mask
from posewatch.perception.separating import overlapping, separated
from posewatch.perception.tracking.tracker import near
from posewatch.records import Detections
from posewatch.video import Writer

PERSONS = "persons.json"
MIN_FRAMES = 3
"""A track that was detected in fewer frames is no person: it gets no number."""
RETURN_S = 10.0
"""A person who appears so soon, and so near, after another one was lost is perhaps the same."""
_MARGIN = 1.6
_STEADY = 0.8
"""Weight of the frame before in the place and the size of a crop."""
SIDE = 256
"""Pixels of a crop's side."""
_FAR = 1_000_000_000
_WAITING = 64
"""Images of a lost person that are kept until the person is seen again."""

Paint = Callable[[Image, Mask], Image]
Box = NDArray[np.float32]


@dataclass
class _Track:
    """A person from frame ``first`` on: ``boxes`` per frame (None: not detected; in others ``seen``), ``views`` centre
    x, centre y and side of the crop per frame, ``images`` not yet written: of one who may be no person, or gone.

    ``overlaps`` and ``swallowed``: track id of another person → stretches [first, end) of frames in which that one
    overlaps a lot, and since that one was lost here.
    """

    first: int
    seen: int = 0
    boxes: list[Box | None] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    views: list[tuple[float, float, float]] = field(default_factory=list)
    writer: Writer | None = None
    overlaps: dict[int, list[list[int]]] = field(default_factory=dict)
    swallowed: dict[int, list[int]] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        return len(self.boxes)

    @property
    def last_box(self) -> Box:
        return next(box for box in reversed(self.boxes) if box is not None)


class PersonWriter:
    """Writes ``person-0001.mp4`` and so on, and ``persons.json``, into ``folder``. A context manager.

    ``size`` is that of the images (width, height). ``view`` "frame": the person in the full frame; "crop": in a square
    that follows the person. Persons who are present for less than ``min_presence_s`` get no video. A lost person is
    followed as long as the tracker remembers them (``hold`` frames). One writer is open for each living track.
    """

    def __init__(
        self,
        folder: Path,
        fps: float,
        size: tuple[int, int],
        *,
        view: str,
        min_presence_s: float,
        hold: int,
        paint: Paint,
    ) -> None:
        self._folder, self._fps, self._size, self._crop = Path(folder), fps, size, view == "crop"
        self._least, self._hold, self._paint = min_presence_s, hold, paint
        self._living: dict[int, _Track] = {}
        self._ended: dict[int, _Track] = {}
        self._pairs: set[tuple[int, int]] = set()
        self._places: list[int] = []
        self._stack = ExitStack()

    def __enter__(self) -> PersonWriter:
        return self

    def write(
        self, image: Image, place: int, persons: Detections, masks: Mapping[int, Mask], held: Mapping[int, Mask]
    ) -> None:
        """The next frame (H, W, 3), at ``place`` of the grid of ``fps``: persons with track ids, their masks (H, W) by
        id, and the remembered masks of lost ones."""
        ids = [] if persons.ids is None else persons.ids.tolist()
        boxes = dict(zip(ids, persons.boxes, strict=True))
        for person in [p for p in self._living if p not in masks and p not in held]:
            self._end(person)
        frame = len(self._places)
        self._places.append(place)
        for person in ids:
            if person not in self._living:
                self._begin(person, frame, boxes[person])
        living = {p: m for p, m in held.items() if p in self._living}
        shown = separated(masks, living)
        self._pairs = overlapping({**masks, **living}, boxes)
        for a, b in self._pairs:
            for one, other in ((a, b), (b, a)):
                _extend(self._living[one].overlaps.setdefault(other, []), frame, self._hold)
        everybody = np.logical_or.reduce([np.zeros(image.shape[:2], bool), *shown.values()])
        for person, mask in shown.items():
            painted = self._paint(image, mask)
            painted[everybody & ~mask] = 0  # the grown edge of a mask ends where somebody else begins
            self._add(self._living[person], person, painted, boxes.get(person))

    def _begin(self, person: int, frame: int, box: Box) -> None:
        """A new person; who comes out of another one's box is no longer hidden in that one's video."""
        self._living[person] = _Track(frame)
        for track in self._living.values():
            if track.swallowed and track.frames and near(track.last_box[None], box[None])[0, 0] > 0:
                for span in track.swallowed.values():
                    span[1] = min(span[1], frame)

    def _add(self, track: _Track, person: int, image: Image, box: Box | None) -> None:
        track.boxes.append(box)
        track.seen += box is not None
        track.images.append(self._cropped(track, image, box) if self._crop else image)
        if (box is None and len(track.images) < _WAITING) or track.seen < MIN_FRAMES:
            return
        if track.writer is None:
            size = (SIDE, SIDE) if self._crop else self._size
            track.writer = self._stack.enter_context(Writer(self._folder / f".track-{person}.mp4", self._fps, size))
        for waiting in track.images:
            track.writer.write(waiting)
        track.images.clear()

    def _cropped(self, track: _Track, image: Image, box: Box | None) -> Image:
        """The person in a square of the same number of pixels, which moves and grows steadily."""
        import cv2

        if box is not None:
            side = max(float(box[2] - box[0]), float(box[3] - box[1]), 16.0) * _MARGIN
            view = ((float(box[0]) + float(box[2])) / 2, (float(box[1]) + float(box[3])) / 2, side)
            before = track.views[-1] if track.views else view
            view = tuple(round(_STEADY * a + (1 - _STEADY) * b, 2) for a, b in zip(before, view, strict=True))  # type: ignore[assignment]
        else:
            view = track.views[-1]
        track.views.append(view)
        x, y, span = view
        scale = SIDE / span
        matrix = np.array([[scale, 0, SIDE / 2 - scale * x], [0, scale, SIDE / 2 - scale * y]])
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        return np.asarray(cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=how), np.uint8)

    def _end(self, person: int) -> None:
        track = self._living.pop(person)
        unseen = len(track.images)  # who was not seen again was last there when seen
        del track.boxes[track.frames - unseen :], track.views[len(track.views) - unseen :], track.images[:]
        if track.writer is not None:
            track.writer.__exit__(None, None, None)
        self._ended[person] = track
        for pair in self._pairs:  # who was lost in somebody else's arms may still be in that one's video
            if person in pair and (other := self._living.get(sum(pair) - person)) is not None:
                other.swallowed[person] = [len(self._places), _FAR]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            for path in self._folder.glob(".track-*.mp4"):
                path.unlink()
            return
        self._pairs = set()
        for person in list(self._living):
            self._end(person)
        self._stack.close()
        self._finish()

    def numbers(self) -> dict[int, int]:
        """Track id → the person's number, from 1, in the order in which they appear, however long they are present."""
        persons = [i for i, track in self._ended.items() if track.seen >= MIN_FRAMES]
        persons.sort(key=lambda i: (self._ended[i].first, i))
        return {track: number for number, track in enumerate(persons, 1)}

    def _finish(self) -> None:
        numbers = self.numbers()
        rows, left_out = [], 0
        for track_id, number in numbers.items():
            track = self._ended[track_id]
            path = self._folder / f".track-{track_id}.mp4"
            if track.frames / self._fps + 1e-6 < self._least:
                left_out += 1
                continue
            path.rename(self._folder / name(number))
            rows.append(self._row(number, track, numbers))
        for path in self._folder.glob(".track-*.mp4"):
            path.unlink()
        about = {
            "fps": self._fps,
            "width": self._size[0],
            "height": self._size[1],
            "view": "crop" if self._crop else "frame",
        }
        text = json.dumps({**about, "too_short": left_out, "persons": rows}, separators=(",", ":"))
        write_atomically(self._folder / PERSONS, text + "\n")

    def _row(self, number: int, track: _Track, numbers: Mapping[int, int]) -> dict[str, Any]:
        end = track.first + track.frames
        overlaps = [
            {"person": numbers[other], **self._times(a, min(b, end)), "lost": False}
            for other, spans in track.overlaps.items()
            if other in numbers
            for a, b in spans
            if a < end
        ] + [
            {"person": numbers[other], **self._times(a, min(b, end)), "lost": True}
            for other, (a, b) in track.swallowed.items()
            if other in numbers and a < min(b, end)
        ]
        row: dict[str, Any] = {
            "person": number,
            "file": name(number),
            "first": track.first,
            "frames": track.frames,
            "seen": track.seen,
            **self._times(track.first, end),
            "perhaps": self._perhaps(track, numbers),
            "overlaps": sorted(overlaps, key=lambda o: (o["begin_s"], o["person"])),
            "boxes": [None if box is None else [round(float(v), 1) for v in box] for box in track.boxes],
        }
        return row | ({"views": track.views} if self._crop else {})

    def _times(self, first: int, end: int) -> dict[str, float]:
        """Seconds of the source of the frames [first, end)."""
        begin, last = self._places[first], self._places[end - 1] + 1
        return {"begin_s": round(begin / self._fps, 3), "end_s": round(last / self._fps, 3)}

    def _perhaps(self, track: _Track, numbers: Mapping[int, int]) -> int | None:
        """The number of a person who was lost nearby a short while before this one appeared; None for nobody."""
        best, match = 0.0, None
        first = next(box for box in track.boxes if box is not None)
        for other, number in numbers.items():
            before = self._ended[other]
            gap = track.first - (before.first + before.frames)
            if 0 <= gap <= RETURN_S * self._fps:
                close = float(near(before.last_box[None], first[None])[0, 0])
                if close > best:
                    best, match = close, number
        return match


def _extend(spans: list[list[int]], frame: int, hold: int) -> None:
    """Add a frame to stretches [first, end) of frames; pauses of up to ``hold`` frames do not end one."""
    if spans and frame <= spans[-1][1] + hold:
        spans[-1][1] = frame + 1
    else:
        spans.append([frame, frame + 1])


def numbered(found: Detections, numbers: Mapping[int, int]) -> Detections:
    """Detections whose ids are the persons' numbers, 0 for a track that is no person."""
    ids = [] if found.ids is None else [numbers.get(i, 0) for i in found.ids.tolist()]
    return Detections(found.boxes, found.scores, found.keypoints, np.array(ids, np.int64))


def name(person: int) -> str:
    """The file of a person's masked video."""
    return f"person-{person:04d}.mp4"


@dataclass(frozen=True)
class Person:
    """One person of a masked video, as ``persons.json`` tells of them.

    ``file`` shows frames [first, first + frames) of the masked video, [begin_s, end_s) seconds of the source; ``boxes``
    (x1, y1, x2, y2 in pixels of the masked video) per frame, None where the person was not detected, who was in
    ``seen`` frames. ``views``, of a crop, are its centre x, centre y and side per frame. ``overlaps`` are the stretches
    in which another person overlaps a lot, or was lost in this one (``lost``) and may be in the picture; ``perhaps`` is
    the number of a person who was lost nearby shortly before this one came: they may be one.
    """

    person: int
    file: str
    first: int
    frames: int
    seen: int
    begin_s: float
    end_s: float
    boxes: tuple[list[float] | None, ...]
    overlaps: tuple[dict[str, Any], ...] = ()
    perhaps: int | None = None
    views: tuple[tuple[float, float, float], ...] = ()

    @property
    def end(self) -> int:
        """The first frame of the masked video after this person's."""
        return self.first + self.frames

    def detections(self, total: int) -> list[Box | None]:
        """The person's box (4,) in each of the ``total`` frames of the masked video; None where there is none."""
        found: list[Box | None] = [None] * total
        for i, box in enumerate(self.boxes):
            found[self.first + i] = None if box is None else np.asarray(box, np.float32)
        return found


def read_persons(about: Mapping[str, Any]) -> list[Person]:
    """The persons of a ``persons.json``. Raises InputError for another file."""
    try:
        rows: Sequence[Mapping[str, Any]] = about["persons"]
        lists = ("boxes", "overlaps", "views")
        fields: list[dict[str, Any]] = [{k: tuple(v) if k in lists else v for k, v in row.items()} for row in rows]
        return [Person(**row) for row in fields]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"this is not what masking wrote about persons ({error}; run mask again)") from None
