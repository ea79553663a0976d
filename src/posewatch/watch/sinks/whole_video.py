"""The whole recording as one annotated video."""

from __future__ import annotations

from pathlib import Path

from posewatch import video
from posewatch.outputs import RESULT, mark
from posewatch.watch.annotator import AlarmState, Annotator
from posewatch.watch.sinks.sink import Sink, SinkContext
from posewatch.watch.sources import Frame
from posewatch.watch.tracked_people import Observation


class WholeVideo(Sink):
    """Every frame of a file, annotated, as ``<video>.mp4``, which appears when it is complete (also after a stop)."""

    def __init__(self, context: SinkContext) -> None:
        self._context = context
        self._annotator: Annotator | None = None
        self._writer: video.Writer | None = None

    @classmethod
    def open(cls, context: SinkContext) -> WholeVideo | None:
        return cls(context) if context.video and not context.source.live else None

    def frame(self, frame: Frame, people: Observation, state: AlarmState) -> None:
        if self._annotator is None or self._writer is None:  # the size is known from the first frame on
            height, width = frame.image.shape[:2]
            self._annotator = self._context.annotator(width, height)
            path = self._context.out / f"{Path(self._context.source.name).stem}.mp4"
            self._writer = video.Writer(path, self._context.config.fps, self._annotator.size).__enter__()
        self._writer.write(self._annotator.annotate(frame.image, people, state))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.__exit__(None, None, None)
            mark(self._writer.path, RESULT)

    def fail(self, error: Exception) -> None:
        if self._writer is not None:
            self._writer.__exit__(type(error), error, error.__traceback__)
