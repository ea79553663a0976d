"""Alarms as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO

from posewatch.outputs import mark
from posewatch.watch.sinks.sink import Sink, SinkContext

ALARMS = "alarms.jsonl"
_LAST_BYTES = 1_000_000


def told(path: Path) -> set[tuple[str, str]]:
    """(id, event) of the last messages in a file of alarms."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LAST_BYTES))
            found = file.read().split(b"\n")
    except FileNotFoundError:
        return set()
    rows = [json.loads(line) for line in found if line.startswith(b"{") and line.endswith(b"}")]
    return {(row["id"], row["event"]) for row in rows}


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
