"""What becomes of alarms and frames: lines, a webhook, annotated videos, a status file."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from posewatch.watch.picture import State
from posewatch.watch.scene import Seen
from posewatch.watch.sinks.lines import Lines
from posewatch.watch.sinks.outbox import Outbox
from posewatch.watch.sinks.videos import AlarmVideos, WholeVideo
from posewatch.watch.sources import Moment, Source
from posewatch.watch.watcher import Progressed

STATUS_S = 2.0


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
