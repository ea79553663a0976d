"""The loop: frames of one source, one after the other, until it ends or somebody says stop."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from posewatch.config import PoseConfig
from posewatch.errors import ConfigError, InputError, ServingError
from posewatch.perception.ports import PoseEstimator
from posewatch.recognition.events.alarms import Hysteresis
from posewatch.recognition.sampling import resample
from posewatch.watch.alarm import Change, LiveAlarm
from posewatch.watch.picture import State, clock
from posewatch.watch.scene import Scene, Seen
from posewatch.watch.sources import Moment, Source

_SPACE = uuid.UUID("b5f7e4a2-7c0e-5d5e-9a43-0f4f6a1f3f10")


@dataclass(frozen=True)
class WatchConfig:
    """How to watch. ``window_s`` is the length of the clips the model was trained on; every ``stride_s`` seconds the
    last one is scored. ``label`` raises alarms, ``hysteresis`` says when; ``smooth`` windows are averaged."""

    fps: float = 10.0
    window_s: float = 3.0
    stride_s: float = 0.5
    smooth: int = 2
    label: str = ""
    hysteresis: Hysteresis = field(default_factory=Hysteresis)

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.window_s <= 0 or not 0 < self.stride_s <= self.window_s:
            raise ConfigError(
                f"watching needs fps above 0 and 0 < stride <= window, not {self.fps:g} frames per second, a stride of"
                f" {self.stride_s:g} s and a window of {self.window_s:g} s"
            )


@dataclass
class Progressed:
    """What was done so far, for people and metrics. ``behind_s``: how old a camera's frame was when it was done;
    ``histogram``: windows by probability, in tenths; ``refused``: windows that the model did not answer."""

    frames: int = 0
    windows: int = 0
    refused: int = 0
    alarms: int = 0
    behind_s: float = 0.0
    probability: float = 0.0
    raised: bool = False
    persons: int = 0
    last_s: float = 0.0
    histogram: list[int] = field(default_factory=lambda: [0] * 10)
    probability_sum: float = 0.0


class Sink(Protocol):
    """Takes what the loop makes; ``alarm`` a message for people and machines, ``frame`` every frame with its state."""

    def alarm(self, message: dict[str, Any]) -> None: ...
    def frame(self, moment: Moment, seen: Seen, state: State) -> None: ...
    def window(self, row: dict[str, Any]) -> None: ...


class Watcher:
    """Watches one source with a model (a ``Predictor`` that knows its shape).

    A camera is watched on when the model gives no answer: such windows count as ``refused``, and ``say`` is told when
    that begins and ends; for a file the ServingError is raised. Raises InputError for a model that does not fit.
    """

    def __init__(
        self,
        source: Source,
        predictor: Any,
        estimator: PoseEstimator,
        pose: PoseConfig,
        config: WatchConfig,
        sink: Sink,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.label = config.label or predictor.metadata.get("positive", "")
        if self.label not in predictor.labels:
            known = ", ".join(predictor.labels)
            raise InputError(
                f"say which class raises alarms: --label, one of {known}"
                if not self.label
                else f"{self.label!r} is none of the model's classes: {known}"
            )
        layout = predictor.metadata.get("layout", estimator.layout)
        if layout != estimator.layout:
            raise InputError(f"the model takes {layout} skeletons, the estimator {estimator.name} gives coco17")
        self._column = predictor.labels.index(self.label)
        self._source, self._predictor, self._config, self._sink, self._say = source, predictor, config, sink, say
        people, self._length = int(predictor.shape[0]), int(predictor.shape[1])
        self._people = people
        self._scene = Scene(estimator, pose, max(2, round(config.window_s * config.fps)), people)
        self._alarm = LiveAlarm(config.hysteresis, config.window_s, config.smooth)
        self._began: Change | None = None
        self._id = ""
        self._about: tuple[int, ...] = ()
        self._away = False
        self.progress = Progressed()

    def run(self, stop: threading.Event) -> Progressed:
        """Watch until the source ends or ``stop`` is set; an alarm that goes on is ended then."""
        step = max(1, round(self._config.stride_s * self._config.fps))
        span = max(2, round(self._config.window_s * self._config.fps))
        due = span - 1
        moment: Moment | None = None
        scored = -1
        for moment in self._source.frames(stop):
            seen = self._scene.see(moment.index, moment.image)
            if moment.index >= due:
                self._score(moment)
                scored, due = moment.index, moment.index - (moment.index - due) % step + step
            self._tell(moment, seen)
        if moment is not None and moment.index != scored and not stop.is_set():
            self._score(moment)  # the last window ends with the source, also when it is shorter than a window
        if moment is not None and (change := self._alarm.finish(moment.time_s)):
            self._change(change, moment)
        return self.progress

    def _score(self, moment: Moment) -> None:
        clips = self._scene.clips(moment.index)
        p = 0.0
        if len(clips.keypoints):
            try:
                keypoints = resample(list(clips.keypoints), self._length, self._people)
                column = self._predictor.predict(keypoints).probabilities[:, self._column]
            except ServingError as error:
                if not self._source.live:
                    raise
                if not self._away:
                    self._say(f"{self._source.name}: {error}; watching on")
                self._away = True
                self.progress.refused += 1
                return
            if self._away:
                self._say(f"{self._source.name}: the model answers again ({self.progress.refused} windows refused)")
            self._away = False
            who = int(np.argmax(column))
            p, self._about = float(column[who]), clips.ids[who]
        done = self.progress
        done.windows += 1
        done.histogram[min(9, int(p * 10))] += 1
        done.probability_sum += p
        end = moment.time_s + 1 / self._config.fps
        start = max(0.0, end - self._config.window_s)
        row = {"video": self._source.name, "start_s": round(start, 3), "end_s": round(end, 3), "p": round(p, 6)}
        self._sink.window(row)
        change = self._alarm.update(end, p)
        done.probability, done.raised = self._alarm.probability, self._alarm.raised
        if change is not None:
            self._change(change, moment)

    def _change(self, change: Change, moment: Moment) -> None:
        if change.what == "raised":
            self._began = change
            self.progress.alarms += 1
            day = moment.wall.date() if moment.wall else ""
            # made once: an alarm may end on another day
            self._id = str(uuid.uuid5(_SPACE, f"{self._source.name} {change.start_s:.3f} {day}"))
        self.progress.raised = change.what == "raised"
        begun = self._began or change
        taken = moment.wall or datetime.now(UTC)
        meta = self._predictor.metadata
        message = {
            "event": "alarm" if change.what == "raised" else "alarm_ended",
            "id": self._id,
            "source": self._source.name,
            "label": self.label,
            "probability": round(change.peak, 4),
            "start_s": round(change.start_s, 3),
            "raised_s": round(begun.at_s, 3),
            "end_s": round(change.end_s, 3) if change.what == "ended" else None,
            "time": taken.isoformat(timespec="milliseconds"),
            "persons": list(self._about),
            "model": {k: meta[k] for k in ("name", "version", "lineage") if meta.get(k)},
        }
        self._sink.alarm(message)

    def _tell(self, moment: Moment, seen: Seen) -> None:
        done = self.progress
        done.frames += 1
        done.persons, done.last_s = len(seen.ids), moment.time_s
        if moment.wall is not None:
            done.behind_s = max(0.0, time.time() - moment.wall.timestamp())
        since = self._began.at_s if self._alarm.raised and self._began else None
        shown = clock(moment.time_s) if moment.wall is None else f"{moment.wall:%Y-%m-%d %H:%M:%S} UTC"
        self._sink.frame(moment, seen, State(moment.time_s, self._alarm.probability, since, self._about, shown))
