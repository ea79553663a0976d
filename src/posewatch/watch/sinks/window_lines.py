"""The probability of every window of a file, for ``posewatch events --windows``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from posewatch.files import atomic
from posewatch.watch.sinks.sink import ScoredWindow, Sink, SinkContext

WINDOWS = ".windows.jsonl"


class WindowLines(Sink):
    """One JSON line per window, in ``<video>.windows.jsonl``, complete at the end. Not for cameras, which never end."""

    def __init__(self, path: Path, video: str) -> None:
        self._video = video
        self._place = ExitStack()
        partial = self._place.enter_context(atomic(path))
        self._file = self._place.enter_context(partial.open("w", encoding="utf-8"))

    @classmethod
    def open(cls, context: SinkContext) -> WindowLines | None:
        if context.source.live:
            return None
        return cls(context.out / f"{Path(context.source.name).stem}{WINDOWS}", context.source.name)

    def window(self, window: ScoredWindow) -> None:
        self._file.write(json.dumps({"video": self._video, **window.row()}) + "\n")

    def close(self) -> None:
        self._place.close()

    def fail(self, error: Exception) -> None:
        self._place.__exit__(type(error), error, error.__traceback__)
