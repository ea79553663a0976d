"""A JSON file with the watcher's figures, which the service's metrics are made from."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posewatch.files import write_atomically
from posewatch.watch.annotator import AlarmState
from posewatch.watch.sinks.sink import Sink, SinkContext
from posewatch.watch.sources import Frame
from posewatch.watch.tracked_people import Observation

INTERVAL_S = 2.0
"""Between two writes of the file."""


def is_status(path: Path) -> bool:
    """Whether a file is the status of some watcher, of any version."""
    try:
        status = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(status, dict) and {"source", "at", "camera"} <= status.keys()


class StatusFile(Sink):
    """Replaces the file every ``INTERVAL_S`` seconds, and when the source has ended. ``at`` is when the last picture
    came: a camera that is silent has a status, but an old one."""

    def __init__(self, context: SinkContext, path: Path) -> None:
        self._context, self._path = context, path
        self._written = self._at = 0.0

    @classmethod
    def open(cls, context: SinkContext) -> StatusFile | None:
        return cls(context, context.status) if context.status is not None else None

    def frame(self, frame: Frame, people: Observation, state: AlarmState) -> None:
        self._at = time.time()
        self._write_in_time()

    def unwatched(self, time_s: float) -> None:
        self._at = time.time()
        self._write_in_time()

    def silent(self, time_s: float) -> None:
        self._write_in_time()

    def close(self) -> None:
        self._write()

    def _write_in_time(self) -> None:
        if time.monotonic() - self._written >= INTERVAL_S:
            self._written = time.monotonic()
            self._write()

    def _write(self) -> None:
        source, delivery = self._context.source, self._context.delivery
        status: dict[str, Any] = {"source": source.name, "at": self._at, **asdict(self._context.stats)}
        status["camera"] = asdict(source.counters)
        if delivery is not None:
            status["outbox"] = len(delivery.outbox.messages())
            status["webhook_failures"] = delivery.failures
        if (records := self._context.records) is not None:
            status |= {
                "records": records.waiting,
                "records_stored": records.stored,
                "record_failures": records.failures,
            }
        write_atomically(self._path, json.dumps(status))
