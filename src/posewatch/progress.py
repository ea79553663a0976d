"""Progress of long work: a bar on a terminal, log lines in a pod, and JSON lines for another process.

When ``POSEWATCH_PROGRESS`` names a file, every stage appends {"stage", "done", "total", "unit", "note", "left_s"} lines
to it; the demo draws its bars from them, because a pipeline's steps run in processes of their own. ``left_s`` is how
many seconds the rest takes at the pace so far; it is missing before the first unit is done.
"""

from __future__ import annotations

import json
import os
import sys
import time
from types import TracebackType

from tqdm import tqdm


def say(line: str) -> None:
    """A line for people, on stderr; it does not tear a bar."""
    tqdm.write(line, file=sys.stderr)


class Progress:
    """Counts ``total`` units of one stage. Use as a context manager; ``advance`` after each unit."""

    def __init__(self, stage: str, total: int, unit: str = "video") -> None:
        self.stage, self.total, self.unit, self.done = stage, total, unit, 0
        # Of the processes that torchrun starts, only the first one reports.
        self._quiet = quiet = os.environ.get("RANK", "0") != "0"
        self._file = "" if quiet else os.environ.get("POSEWATCH_PROGRESS", "")
        terminal = sys.stderr.isatty() and not self._file and not quiet
        self._bar = tqdm(total=total, desc=stage, unit=unit, disable=not terminal, leave=True)
        self._lines = not terminal and not self._file and not quiet
        self._last = self._printed = 0.0
        self._began, self._before = time.monotonic(), 0

    def __enter__(self) -> Progress:
        self._emit("", force=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if kind is None:
            self._emit("finished", force=True)

    def advance(self, count: int = 1, note: str = "", *, before: bool = False) -> None:
        """``count`` more units are done; ``note`` is one short remark (a loss, a name).

        ``before``: they were done by an earlier run, so they say nothing about the pace.
        """
        self.done += count
        if before:
            self._before += count
            if not self._bar.disable:
                self._bar.initial += count
        self._bar.update(count)
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._emit(note)

    def say(self, message: str) -> None:
        """A line for people that does not tear the bar."""
        if self._lines or self._file:
            print(json.dumps({"stage": self.stage, "message": message}), file=sys.stderr, flush=True)
        elif not self._quiet:
            say(message)
        self._write({"stage": self.stage, "message": message})

    def _write(self, row: dict[str, object]) -> None:
        if self._file:
            with open(self._file, "a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")

    def _emit(self, note: str, force: bool = False) -> None:
        now = time.monotonic()
        row: dict[str, object] = {
            "stage": self.stage, "done": self.done, "total": self.total, "unit": self.unit, "note": note,
        }  # fmt: skip
        if self.done > self._before:
            pace = (now - self._began) / (self.done - self._before)
            row["left_s"] = round(pace * max(0, self.total - self.done))
        if force or now - self._last > 0.2 or self.done >= self.total:
            self._write(row)
            self._last = now
        if self._lines and (force or now - self._printed > 10):
            print(json.dumps(row), file=sys.stderr, flush=True)
            self._printed = now
