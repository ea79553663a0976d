"""What a sink is, and what it is opened with."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from posewatch.watch.annotator import AlarmState, Annotator
from posewatch.watch.config import WatchConfig
from posewatch.watch.records.upload import Records
from posewatch.watch.sinks.delivery import Delivery
from posewatch.watch.sources import Frame, Source
from posewatch.watch.stats import WatchStats
from posewatch.watch.tracked_people import Observation


@dataclass(frozen=True)
class SinkContext:
    """The source that is watched, and which outputs the user chose.

    ``label`` is the class that raises alarms. Files go to the folder ``out``; ``video`` asks for annotated videos with
    this ``privacy`` (see ``Annotator``), ``status`` names a status file. ``delivery`` sends messages to a receiver,
    ``records`` keeps every alarm in the object store. Alarm lines also go to ``stream``.
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
    records: Records | None = None
    stream: TextIO = field(default_factory=lambda: sys.stdout)

    def annotator(self, width: int, height: int) -> Annotator:
        """An annotator for the source's frames of (width, height) pixels."""
        limits = self.config.hysteresis
        return Annotator(width, height, self.source.name, self.label, limits.on, limits.off, self.privacy)


@dataclass(frozen=True)
class ScoredWindow:
    """A window from ``start_s`` to ``end_s`` seconds of the source and its probability ``p``; ``smoothed`` is the mean
    that the alarm follows.

    ``person`` is whom it is of; None: the scene, or with a model of single persons that nobody was there.
    ``keypoints`` float32 (M, T, V, 3) are what the model was asked about; None when nobody was seen.
    """

    person: int | None
    start_s: float
    end_s: float
    p: float
    smoothed: float
    keypoints: NDArray[np.float32] | None
    model: Mapping[str, str] = field(default_factory=dict)
    """The metadata of the version that answered."""
    novelty: float | None = None
    """How strange it is to the model, where that tells it: above 1, like nothing it knows."""

    def row(self) -> dict[str, Any]:
        """The row of a file of windows, but for its video."""
        who = {} if self.person is None else {"person": self.person}
        times = {"start_s": round(self.start_s, 3), "end_s": round(self.end_s, 3)}
        novelty = {} if self.novelty is None else {"novelty": round(self.novelty, 4)}
        return {**who, **times, "p": round(self.p, 6), **novelty}


class Sink(ABC):
    """Takes what a watcher reports about one source. A sink overrides what it needs; the rest does nothing."""

    @classmethod
    @abstractmethod
    def open(cls, context: SinkContext) -> Sink | None:
        """The sink for this source; None when the context does not ask for it."""

    def left(self) -> list[dict[str, Any]]:
        """Messages that an earlier process could not give to the other sinks; they get them now."""
        return []

    def alarm(self, message: dict[str, Any]) -> None:
        """An alarm was raised or has ended; ``message`` is the JSON object of docs/watch.md."""

    def window(self, window: ScoredWindow) -> None:
        """A window was scored; if it raises or ends an alarm, the message comes next."""

    def frame(self, frame: Frame, people: Observation, state: AlarmState) -> None:
        """A frame was watched."""

    def unwatched(self, time_s: float) -> None:
        """The camera sends pictures, and need not be looked at: nobody is there, all alarms have ended."""

    def silent(self, time_s: float) -> None:
        """The camera sends no pictures, and all alarms have ended. Told again and again until it does."""
        self.unwatched(time_s)

    def close(self) -> None:
        """The source has ended, or the watcher was stopped: complete the files."""

    def fail(self, error: Exception) -> None:
        """The source could not be watched to its end: leave out what would be taken for the whole of it."""
        self.close()
