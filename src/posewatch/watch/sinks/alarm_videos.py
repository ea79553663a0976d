"""An annotated video of each alarm of a camera."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posewatch import video
from posewatch.outputs import RESULT, mark
from posewatch.units import PERSON
from posewatch.watch.annotator import AlarmState, Annotator
from posewatch.watch.payload import RAISED
from posewatch.watch.sinks.sink import Sink, SinkContext
from posewatch.watch.sources import Frame
from posewatch.watch.tracked_people import Observation

BEFORE_S = AFTER_S = 5.0
"""Seconds around an alarm that its video shows."""
MAX_S = 60.0
"""The video of a longer alarm ends here."""
MOST = 4
"""Videos that are written at a time: alarms beyond have none."""
Seen = tuple[Frame, Observation, AlarmState]


@dataclass
class _Clip:
    """The video of one alarm, which is about ``person`` or about the scene (None)."""

    person: int | None
    annotator: Annotator
    writer: video.Writer
    raised_s: float
    until_s: float = float("inf")

    def write(self, seen: Iterable[Seen]) -> None:
        for frame, people, state in seen:
            of = state if self.person is None else state.of(self.person)
            self.writer.write(self.annotator.annotate(frame.image, people, of))

    def wants(self, time_s: float) -> bool:
        return time_s <= min(self.until_s, self.raised_s + MAX_S)

    def close(self) -> None:
        self.writer.__exit__(None, None, None)
        mark(self.writer.path, RESULT)


class AlarmVideos(Sink):
    """The seconds around each alarm as ``alarms/<id>.mp4``. Holds the frames of the last ``BEFORE_S`` in memory.

    Alarms about the scene come one after the other; those about persons may come at once, ``MOST`` of them.
    """

    def __init__(self, context: SinkContext) -> None:
        self._context, self._fps = context, context.config.fps
        self._recent: deque[Seen] = deque(maxlen=max(1, round(BEFORE_S * self._fps)))
        self._clips: dict[str, _Clip] = {}

    @classmethod
    def open(cls, context: SinkContext) -> AlarmVideos | None:
        return cls(context) if context.video and context.source.live else None

    def alarm(self, message: dict[str, Any]) -> None:
        clip = self._clips.get(message["id"])
        if message["event"] != RAISED:
            if clip is not None:
                clip.until_s = (message["end_s"] or 0) + AFTER_S
            return
        person = message.get("person") if self._context.config.unit == PERSON else None
        most = MOST if "person" in message else 1
        if self._recent and len(self._clips) < most:
            height, width = self._recent[0][0].image.shape[:2]
            annotator = self._context.annotator(width, height)
            path = self._context.out / "alarms" / f"{Path(message['id']).name}.mp4"
            writer = video.Writer(path, self._fps, annotator.size).__enter__()
            clip = self._clips[message["id"]] = _Clip(person, annotator, writer, message["raised_s"])
            clip.write(self._recent)

    def frame(self, frame: Frame, people: Observation, state: AlarmState) -> None:
        self._recent.append((frame, people, state))
        for key, clip in list(self._clips.items()):
            if clip.wants(frame.time_s):
                clip.write([(frame, people, state)])
            else:
                clip.close()
                del self._clips[key]

    def unwatched(self, time_s: float) -> None:
        self._recent.clear()
        self.close()  # nothing more comes of these alarms

    def close(self) -> None:
        for clip in self._clips.values():
            clip.close()
        self._clips.clear()
