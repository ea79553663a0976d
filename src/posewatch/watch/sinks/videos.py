"""Annotated videos: of each alarm, or of the whole recording."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posewatch import video
from posewatch.watch.picture import Painter, State
from posewatch.watch.scene import Seen
from posewatch.watch.sources import Moment

BEFORE_S = AFTER_S = 5.0
"""Seconds around a camera's alarm that its video shows."""


LONGEST_S = 60.0
"""A camera's alarm that goes on: its video ends here."""


MakePainter = Callable[[int, int], Painter]


class WholeVideo:
    """Every frame of a file, annotated, as one video; it appears when it is complete, also after a stop."""

    def __init__(self, path: Path, fps: float, painter: MakePainter) -> None:
        self._path, self._fps, self._make = path, fps, painter
        self._painter: Painter | None = None
        self._writer: video.Writer | None = None

    def alarm(self, message: dict[str, Any]) -> None:
        """Nothing to do: every frame is there anyway."""

    def frame(self, moment: Moment, seen: Seen, state: State) -> None:
        if self._painter is None or self._writer is None:
            height, width = moment.image.shape[:2]
            self._painter = self._make(width, height)
            self._writer = video.Writer(self._path, self._fps, self._painter.size).__enter__()
        self._writer.write(self._painter.paint(moment.image, seen, state))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.__exit__(None, None, None)


class AlarmVideos:
    """Of a camera: the seconds around each alarm, as ``<folder>/<id>.mp4``. Holds the frames of a few seconds."""

    def __init__(self, folder: Path, fps: float, painter: MakePainter) -> None:
        self._folder, self._fps, self._make = folder, fps, painter
        self._painter: Painter | None = None
        self._recent: deque[tuple[Moment, Seen, State]] = deque(maxlen=max(1, round(BEFORE_S * fps)))
        self._writer: video.Writer | None = None
        self._until = self._begun = 0.0

    def alarm(self, message: dict[str, Any]) -> None:
        if message["event"] == "alarm" and self._writer is None and self._recent:
            image = self._recent[0][0].image
            self._painter = self._make(image.shape[1], image.shape[0])
            path = self._folder / f"{message['id']}.mp4"
            self._writer = video.Writer(path, self._fps, self._painter.size).__enter__()
            self._begun, self._until = message["raised_s"], float("inf")
            for moment, seen, state in self._recent:
                self._writer.write(self._painter.paint(moment.image, seen, state))
            self._recent.clear()
        elif message["event"] != "alarm":
            self._until = min(self._until, (message["end_s"] or 0) + AFTER_S)

    def frame(self, moment: Moment, seen: Seen, state: State) -> None:
        if self._writer is None:
            self._recent.append((moment, seen, state))
            return
        assert self._painter is not None
        if moment.time_s <= min(self._until, self._begun + LONGEST_S):
            self._writer.write(self._painter.paint(moment.image, seen, state))
        else:
            self.close()

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(None, None, None)
