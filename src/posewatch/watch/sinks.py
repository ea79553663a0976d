"""What becomes of alarms and frames: lines, a webhook, annotated videos, a status file."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from posewatch import video
from posewatch.watch.outbox import Outbox
from posewatch.watch.picture import Painter, State
from posewatch.watch.scene import Seen
from posewatch.watch.sources import Moment, Source
from posewatch.watch.watcher import Progressed

BEFORE_S = AFTER_S = 5.0
"""Seconds around a camera's alarm that its video shows."""
LONGEST_S = 60.0
"""A camera's alarm that goes on: its video ends here."""
STATUS_S = 2.0

MakePainter = Callable[[int, int], Painter]


class Lines:
    """Alarms as JSON lines, to a file (appended) and to a stream."""

    def __init__(self, path: Path | None, stream: TextIO | None = None) -> None:
        self._path, self._stream = path, stream or sys.stdout

    def __call__(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, ensure_ascii=False)
        print(line, file=self._stream, flush=True)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


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


class Sinks:
    """All of them, as one ``Sink``; a context manager. ``status`` is a file that says how it goes, for metrics."""

    def __init__(
        self,
        lines: Lines,
        videos: WholeVideo | AlarmVideos | None,
        outbox: Outbox | None,
        windows: Path | None,
        status: Path | None,
    ) -> None:
        self._lines, self._videos, self._outbox, self._windows, self._status = lines, videos, outbox, windows, status
        self._told = 0.0
        self._stack = ExitStack()
        self._rows: TextIO | None = None
        self.source: Source | None = None
        self.progress: Progressed | None = None

    def __enter__(self) -> Sinks:
        if self._windows is not None:
            self._rows = self._stack.enter_context(self._windows.open("w", encoding="utf-8"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._videos is not None:
            self._videos.close()
        self._stack.close()
        self._write_status()

    def alarm(self, message: dict[str, Any]) -> None:
        if self._outbox is not None:  # on disk before anything else
            self._outbox.put(f"{message['id']}-{message['event']}", message)
        self._lines(message)
        if self._videos is not None:
            self._videos.alarm(message)

    def window(self, row: dict[str, Any]) -> None:
        if self._rows is not None:
            self._rows.write(json.dumps(row) + "\n")

    def frame(self, moment: Moment, seen: Seen, state: State) -> None:
        if self._videos is not None:
            self._videos.frame(moment, seen, state)
        if time.monotonic() - self._told >= STATUS_S:
            self._told = time.monotonic()
            self._write_status()

    def _write_status(self) -> None:
        if self._status is None or self.source is None or self.progress is None:
            return
        told: dict[str, Any] = {"source": self.source.name, "at": time.time(), **asdict(self.progress)}
        told["camera"] = asdict(self.source.counters)
        if self._outbox is not None:
            told["outbox"] = len(self._outbox.waiting())
            told["webhook_failures"] = self._outbox.failures
        part = self._status.with_name(f".{self._status.name}.{os.getpid()}.part")
        part.write_text(json.dumps(told), encoding="utf-8")
        part.replace(self._status)
