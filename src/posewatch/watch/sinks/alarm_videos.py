"""An annotated video of each alarm of a camera."""

from __future__ import annotations

from collections import deque
from typing import Any

from posewatch import video
from posewatch.outputs import RESULT, mark
from posewatch.watch.annotator import AlarmState, Annotator
from posewatch.watch.sinks.sink import Sink, SinkContext
from posewatch.watch.sources import Frame
from posewatch.watch.tracked_people import Observation

BEFORE_S = AFTER_S = 5.0
"""Seconds around an alarm that its video shows."""
MAX_S = 60.0
"""The video of a longer alarm ends here."""


class AlarmVideos(Sink):
    """The seconds around each alarm as ``alarms/<id>.mp4``. Holds the frames of the last ``BEFORE_S`` in memory."""

    def __init__(self, context: SinkContext) -> None:
        self._context, self._fps = context, context.config.fps
        self._annotator: Annotator | None = None
        self._recent: deque[tuple[Frame, Observation, AlarmState]] = deque(maxlen=max(1, round(BEFORE_S * self._fps)))
        self._writer: video.Writer | None = None
        self._raised_s = self._until_s = 0.0

    @classmethod
    def open(cls, context: SinkContext) -> AlarmVideos | None:
        return cls(context) if context.video and context.source.live else None

    def alarm(self, message: dict[str, Any]) -> None:
        if message["event"] != "alarm":
            self._until_s = min(self._until_s, (message["end_s"] or 0) + AFTER_S)
        elif self._writer is None and self._recent:
            height, width = self._recent[0][0].image.shape[:2]
            self._annotator = self._context.annotator(width, height)
            path = self._context.out / "alarms" / f"{message['id']}.mp4"
            self._writer = video.Writer(path, self._fps, self._annotator.size).__enter__()
            self._raised_s, self._until_s = message["raised_s"], float("inf")
            for frame, people, state in self._recent:
                self._writer.write(self._annotator.annotate(frame.image, people, state))
            self._recent.clear()

    def frame(self, frame: Frame, people: Observation, state: AlarmState) -> None:
        if self._writer is None:
            self._recent.append((frame, people, state))
            return
        assert self._annotator is not None
        if frame.time_s <= min(self._until_s, self._raised_s + MAX_S):
            self._writer.write(self._annotator.annotate(frame.image, people, state))
        else:
            self.close()

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(None, None, None)
            mark(writer.path, RESULT)
