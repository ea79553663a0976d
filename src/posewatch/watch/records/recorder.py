"""The sink that makes records: every alarm, windows just below the threshold, a few random ones without an alarm."""

from __future__ import annotations

import logging
import random
import shutil
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.perception.draw import overlay
from posewatch.perception.ports import Image
from posewatch.units import PERSON
from posewatch.watch.annotator import AlarmState, anonymised
from posewatch.watch.payload import ENDED, RAISED, model_of
from posewatch.watch.records.rates import Moments, Rate
from posewatch.watch.records.spool import PEOPLE, OpenRecord, lines
from posewatch.watch.records.upload import Records
from posewatch.watch.sinks.alarm_lines import ALARMS, told
from posewatch.watch.sinks.sink import ScoredWindow, Sink, SinkContext
from posewatch.watch.sources import Frame
from posewatch.watch.tracked_people import Observation

BEFORE_S = AFTER_S = 5.0
"""Seconds around an alarm that its clip shows."""
MAX_S = 60.0
"""The clip of a longer alarm, and what the model was asked about, end here; its curve goes on."""
NEAR = 0.7
"""Of the threshold: the smoothed probability from which a window is a near miss."""
CROWDED = 200
"""Records that wait for the store from which on only alarms are recorded."""
LEAST_BYTES = 500_000_000
"""Free on the disk, below which records have no pictures: nothing else may fail because the store is away."""
_MARGIN = 0.1
"""Of a box: how much of what is around it stays visible."""
_NAMESPACE = uuid.UUID("4c1f2f5e-1f0a-5a53-9d3c-9a86b1c1d7a2")
_TOLD = (
    "label",
    "persons",
    "start_s",
    "raised_s",
    "end_s",
    "probability",
    "model",
    "rule",
    "of",
    "reason",
    "times",
    "novelty",
)
"""What a record repeats of the message about it."""
_LOG = logging.getLogger(__name__)


@dataclass
class _Going:
    """A record that is being written; ``person`` is whom it is about, None: everybody."""

    record: OpenRecord
    person: int | None
    from_s: float
    until_s: float = float("inf")
    filled: bool = False
    boxes: dict[int, tuple[float, Any]] = field(default_factory=dict)
    """Of each person when they were seen last, and their box."""


@dataclass
class _Past:
    """The last windows of a person or the scene, and the best of them since they came near the threshold."""

    windows: deque[ScoredWindow]
    near: ScoredWindow | None = None


class Recorder(Sink):
    """Writes records to the spool; what cannot be written (a full disk) is logged and counted, and watching goes on."""

    def __init__(self, context: SinkContext, records: Records) -> None:
        self._context, self._records, self._source = context, records, context.source
        config, settings = context.config, records.settings
        self._config, self._single = config, config.unit == PERSON
        span = BEFORE_S + config.window_s
        self._most = round(span / config.stride_s) + 1
        self._recent: deque[tuple[Frame, Observation]] = deque(maxlen=max(2, round(span * config.fps)))
        self._past: dict[int | None, _Past] = {}
        self._going: dict[str, _Going] = {}
        self._near, self._moments = Rate(settings.near_misses), Moments(settings.samples, random.Random())
        self._skip: int | None = None
        """Windows until the one that a random moment meant."""

    @classmethod
    def open(cls, context: SinkContext) -> Recorder | None:
        return cls(context, context.records) if context.records is not None else None

    def left(self) -> list[dict[str, Any]]:
        """Close what a killed process left open; the messages of it that nobody was told."""
        spool, known = self._records.spool, told(self._context.out / ALARMS)
        spool.tidy()
        messages = []
        for folder in spool.folders():
            try:
                about = spool.read(folder)
                if about.get("closed"):
                    continue
                if about["began"] is None:  # a recording, which is watched again from its beginning
                    spool.remove(folder)
                    continue
                message = about["message"]
                if message["event"] == RAISED:
                    messages += [message] if (message["id"], RAISED) not in known else []
                    message = _interrupted(folder, message)
                    about |= {"message": message, **_of(message)}
                messages += [message] if (message["id"], ENDED) not in known else []
                spool.rewrite(folder, {**about, "closed": True})
            except (ValueError, KeyError, TypeError) as error:
                _LOG.warning("record %s: %s; put aside as %s", folder.name, error, spool.refuse(folder))
        self._records.news.set()
        return messages

    def alarm(self, message: dict[str, Any]) -> None:
        """The record of an alarm is on the disk before anybody is told; pictures of the time before follow."""
        number = message["id"]
        with self._caught(number):
            if message["event"] == RAISED:
                person = message.get("person")
                about = self._about("alarm", number, person, message["start_s"]) | _of(message) | {"message": message}
                if (record := self._open(number, about)) is not None:
                    self._going[number] = _Going(record, person if self._single else None, message["raised_s"])
            elif (going := self._going.get(number)) is not None:
                going.record.update(message=message, ended=self._clock(message["end_s"]), **_of(message))
                going.until_s = message["end_s"] + AFTER_S

    def window(self, window: ScoredWindow) -> None:
        if self._single and window.person is None:
            return
        past = self._past.setdefault(window.person, _Past(deque(maxlen=self._most)))
        past.windows.append(window)
        alarms = [(number, going) for number, going in self._going.items() if going.person == window.person]
        for number, going in alarms:
            if going.filled and window.end_s <= going.until_s:
                with self._caught(number):
                    short = window.end_s <= going.from_s + MAX_S
                    going.record.window(_row(window), window.keypoints if short else None)
        near = self._missed(window, past, alarm=bool(alarms))
        if near is not None and self._near.take(near.end_s):
            self._still("near_miss", near)
        if self._skip is None and self._moments.come(window.end_s):
            self._skip = random.randrange(max(1, self._context.stats.asked))
        if self._skip is not None and window.keypoints is not None:
            self._skip = self._skip - 1 if self._skip else None
            if self._skip is None and not alarms:
                self._still("sample", window)

    def frame(self, frame: Frame, people: Observation, state: AlarmState) -> None:
        self._recent.append((frame, people))
        for number, going in list(self._going.items()):
            with self._caught(number):
                if not going.filled:
                    self._fill(going)
                elif frame.time_s <= min(going.until_s, going.from_s + MAX_S):
                    self._write(going, frame, people)
                elif frame.time_s > going.until_s:
                    self._finish(number)
        oldest = self._recent[0][0].time_s
        self._past = {who: past for who, past in self._past.items() if past.windows[-1].end_s >= oldest}

    def unwatched(self, time_s: float) -> None:
        self.close()  # nothing more comes of these records
        self._recent.clear()
        self._past.clear()

    def close(self) -> None:
        for number in list(self._going):
            with self._caught(number):
                self._finish(number)

    def _missed(self, window: ScoredWindow, past: _Past, *, alarm: bool) -> ScoredWindow | None:
        """The best window of a time near the threshold that ends without an alarm."""
        on, best = self._config.hysteresis.on, past.near
        if alarm or window.smoothed >= on:
            past.near = None
        elif window.smoothed >= NEAR * on:
            past.near = window if best is None or window.smoothed > best.smoothed else best
        else:
            past.near = None
            return best
        return None

    def _still(self, kind: str, window: ScoredWindow) -> None:
        """A record of one window, all of it at once."""
        if self._records.waiting >= CROWDED or not self._recent:
            return
        began = self._clock(window.start_s)
        text = f"{self._source.name} {kind} {began or window.start_s} {window.person}"
        number = str(uuid.uuid5(_NAMESPACE, text))
        with self._caught(number):
            about = self._about(kind, number, window.person, window.start_s) | {
                "label": self._context.label, "persons": [] if window.person is None else [window.person],
                "start_s": round(window.start_s, 3), "raised_s": None, "end_s": round(window.end_s, 3),
                "probability": round(window.smoothed, 4), "model": model_of(window.model),
                "ended": self._clock(window.end_s),
                **({} if window.novelty is None else {"novelty": round(window.novelty, 3)}),
            }  # fmt: skip
            if (record := self._open(number, about)) is not None:
                self._fill(_Going(record, window.person, window.start_s))
                record.close()
        self._records.news.set()

    def _open(self, number: str, about: dict[str, Any]) -> OpenRecord | None:
        """A new record; None where it is spooled already: a recording that is watched again."""
        folder = self._records.spool.folder / number
        return None if folder.exists() else OpenRecord(folder, about)

    def _about(self, kind: str, number: str, person: int | None, start_s: float) -> dict[str, Any]:
        config, limits = self._config, self._config.hysteresis
        watch = {
            "on": limits.on, "off": limits.off, "min_s": limits.min_s, "merge_s": limits.merge_s,
            "smooth": config.smooth, "window_s": config.window_s, "stride_s": config.stride_s, "fps": config.fps,
        }  # fmt: skip
        return {
            "kind": kind, "id": number, "camera": self._source.name, "unit": config.unit, "person": person,
            "began": self._clock(start_s), "ended": None, "watch": watch,
        }  # fmt: skip

    def _fill(self, going: _Going) -> None:
        """Write what was before: windows and pictures."""
        going.filled = True
        past = self._past.get(going.person)
        for window in past.windows if past else ():
            going.record.window(_row(window), window.keypoints)
        for frame, people in self._recent:
            self._write(going, frame, people)

    def _write(self, going: _Going, frame: Frame, people: Observation) -> None:
        boxes, keypoints = people.detections.boxes, people.detections.keypoints
        for i, number in enumerate(people.ids):
            if going.person in (None, number):
                going.boxes[number] = (frame.time_s, boxes[i])
        shown = [box for at_s, box in going.boxes.values() if frame.time_s - at_s <= self._config.hold_s]
        seen = [
            {
                "id": number,
                "box": boxes[i].astype(float).round(1).tolist(),
                "keypoints": [] if keypoints is None else keypoints[i].astype(float).round(2).tolist(),
            }
            for i, number in enumerate(people.ids)
        ]
        row = {"time_s": round(frame.time_s, 3), "time": _iso(frame.wall), "people": seen}
        image = _blackened(anonymised(frame.image, self._context.privacy), shown)
        if self._context.privacy == "skeleton" and keypoints is not None and keypoints.shape[1] == 17:
            image = overlay(image, keypoints[[n in going.boxes for n in people.ids]])
        low = shutil.disk_usage(going.record.folder).free < LEAST_BYTES
        raw = frame.image if self._records.settings.raw and not low else None
        going.record.frame(frame.index, row, None if low else image, raw)

    def _finish(self, number: str) -> None:
        going = self._going.pop(number)
        if not going.filled:
            self._fill(going)
        going.record.close()
        self._records.news.set()

    def _clock(self, at_s: float) -> str | None:
        """The time in UTC of a second of a camera; None for a recording."""
        if not self._recent or self._recent[-1][0].wall is None:
            return None
        frame, _ = self._recent[-1]
        return _iso(frame.wall and frame.wall - timedelta(seconds=frame.time_s - at_s))

    @contextmanager
    def _caught(self, number: str) -> Iterator[None]:
        """Watching must not end because a record cannot be written: it ends with what it has."""
        try:
            yield
        except OSError as error:
            self._records.failures += 1
            self._going.pop(number, None)
            _LOG.warning("%s: record %s: %s; watching on without it", self._source.name, number, error.strerror)


def _row(window: ScoredWindow) -> dict[str, Any]:
    return {**window.row(), "smoothed": round(window.smoothed, 6)}


def _of(message: Mapping[str, Any]) -> dict[str, Any]:
    return {key: message[key] for key in _TOLD if key in message}


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds")


def _interrupted(folder: Path, message: Mapping[str, Any]) -> dict[str, Any]:
    """The end of an alarm whose watcher was killed, as far as its record goes."""
    end_s = max((row["time_s"] for row in lines(folder / PEOPLE)), default=message["raised_s"])
    return {
        **message, "event": ENDED, "end_s": max(end_s, message["raised_s"]), "time": _iso(datetime.now(UTC)),
        "reason": "interrupted",
    }  # fmt: skip


def _blackened(image: Image, boxes: Iterable[Any]) -> Image:
    """The image with everything black but these boxes (x1, y1, x2, y2) and a margin around them."""
    out = np.zeros_like(image)
    height, width = image.shape[:2]
    for x1, y1, x2, y2 in ([float(v) for v in box] for box in boxes):
        dx, dy = _MARGIN * (x2 - x1), _MARGIN * (y2 - y1)
        rows = slice(max(0, int(y1 - dy)), max(0, min(height, int(y2 + dy) + 1)))
        columns = slice(max(0, int(x1 - dx)), max(0, min(width, int(x2 + dx) + 1)))
        out[rows, columns] = image[rows, columns]
    return out
