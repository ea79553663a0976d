"""Alarms as JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, TextIO


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
