"""What a sink is, and what it is opened with."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from posewatch.watch.annotator import AlarmState, Annotator
from posewatch.watch.config import WatchConfig
from posewatch.watch.sinks.delivery import Delivery
from posewatch.watch.sources import Frame, Source
from posewatch.watch.stats import WatchStats
from posewatch.watch.tracked_people import Observation


@dataclass(frozen=True)
class SinkContext:
    """The source that is watched, and which outputs the user chose.

    ``label`` is the class that raises alarms. Files go to the folder ``out``; ``video`` asks for annotated videos with
    this ``privacy`` (see ``Annotator``), ``status`` names a status file. ``delivery`` sends messages to a receiver.
    Alarm lines also go to ``stream``.
    """

    source: Source
    stats: WatchStats
    label: str
    config: WatchConfig
    out: Path
    video: bool = True
    privacy: str = "none"
    status: Path | None = None
    delivery: Delivery | None = None
    stream: TextIO = field(default_factory=lambda: sys.stdout)

    def annotator(self, width: int, height: int) -> Annotator:
        """An annotator for the source's frames of (width, height) pixels."""
        limits = self.config.hysteresis
        return Annotator(width, height, self.source.name, self.label, limits.on, limits.off, self.privacy)


class Sink(ABC):
    """Takes what a watcher reports about one source. A sink overrides what it needs; the rest does nothing."""

    @classmethod
    @abstractmethod
    def open(cls, context: SinkContext) -> Sink | None:
        """The sink for this source; None when the context does not ask for it."""

    def alarm(self, message: dict[str, Any]) -> None:
        """An alarm was raised or has ended; ``message`` is the JSON object of docs/watch.md."""

    def window(self, row: dict[str, Any]) -> None:
        """A window was scored: ``video``, ``start_s``, ``end_s`` and the probability ``p``."""

    def frame(self, frame: Frame, people: Observation, state: AlarmState) -> None:
        """A frame was watched."""

    def close(self) -> None:
        """The source has ended: complete the files."""
