"""The probability of every window of a file, for ``posewatch events --windows``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from posewatch.files import atomic
from posewatch.watch.sinks.sink import Sink, SinkContext

WINDOWS = ".windows.jsonl"


class WindowLines(Sink):
    """One JSON line per window, in ``<video>.windows.jsonl``, complete at the end. Not for cameras, which never end."""

    def __init__(self, path: Path) -> None:
        self._place = ExitStack()
        partial = self._place.enter_context(atomic(path))
        self._file = self._place.enter_context(partial.open("w", encoding="utf-8"))

    @classmethod
    def open(cls, context: SinkContext) -> WindowLines | None:
        if context.source.live:
            return None
        return cls(context.out / f"{Path(context.source.name).stem}{WINDOWS}")

    def window(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        self._place.close()
