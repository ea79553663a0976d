"""Alarms as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO

from posewatch.outputs import mark
from posewatch.watch.sinks.sink import Sink, SinkContext

ALARMS = "alarms.jsonl"


class AlarmLines(Sink):
    """One JSON line per message, appended to ``alarms.jsonl`` and written to a stream."""

    def __init__(self, path: Path, stream: TextIO) -> None:
        self._path, self._stream = path, stream

    @classmethod
    def open(cls, context: SinkContext) -> AlarmLines:
        return cls(context.out / ALARMS, context.stream)

    def alarm(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, ensure_ascii=False) + "\n"
        self._stream.write(line)
        self._stream.flush()
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
        mark(self._path)
