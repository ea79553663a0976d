"""The loop over the frames of one source: track people, score windows, raise alarms, feed the sinks."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from posewatch.config import PoseConfig
from posewatch.errors import InputError, ServingError
from posewatch.inference.predictor import Predictor
from posewatch.names import known_as
from posewatch.perception.ports import PoseEstimator
from posewatch.recognition.sampling import resample
from posewatch.video.clock import GAP_S
from posewatch.watch.alarm import AlarmEvent, LiveAlarm
from posewatch.watch.annotator import AlarmState, clock
from posewatch.watch.config import WatchConfig
from posewatch.watch.sinks.sink import Sink
from posewatch.watch.sources import Frame, Source
from posewatch.watch.stats import WatchStats
from posewatch.watch.tracked_people import Observation, TrackedPeople

_NAMESPACE = uuid.UUID("b5f7e4a2-7c0e-5d5e-9a43-0f4f6a1f3f10")
"""Of alarm ids, so that the same alarm of the same source always has the same id."""
_LOG = logging.getLogger(__name__)


class Watcher:
    """Watches one source with a model.

    ``label`` is the class that raises alarms, ``stats`` what was done so far. Raises InputError for a model that does
    not fit the options or the estimator.
    """

    def __init__(
        self, source: Source, predictor: Predictor, estimator: PoseEstimator, pose: PoseConfig, config: WatchConfig
    ) -> None:  # fmt: skip
        self.label, self.stats = _alarm_label(predictor, config.label), WatchStats()
        layout = predictor.layout or estimator.layout
        if layout != estimator.layout:
            raise InputError(
                f"the model takes {layout} skeletons, the estimator {estimator.name} gives {estimator.layout}"
            )
        self._source, self._predictor, self._config = source, predictor, config
        self._model_people = predictor.people
        self._people = TrackedPeople(estimator, pose, config.window_frames, self._model_people)
        self._alarm = LiveAlarm(config.hysteresis, config.window_s, config.smooth)
        self._raised: AlarmEvent | None = None
        self._alarm_id = ""
        self._ids: tuple[int, ...] = ()
        self._model_answers = True

    def run(self, sinks: Sequence[Sink], stop: threading.Event) -> WatchStats:
        """Watch until the source ends or ``stop`` is set, then end the current alarm. A gap of the source ends it, too.

        When the model does not answer, a camera is watched on: the window counts as refused, and the log says when that
        begins and ends. For a file the ServingError is raised.
        """
        stride = self._config.stride_frames
        due = self._config.window_frames - 1
        scored = -1
        frame: Frame | None = None
        last: Frame | None = None
        for frame in self._source.frames(stop):
            if last is not None and frame.time_s - last.time_s > GAP_S:  # what was before a gap has ended with it
                self._end(last, last.index != scored, sinks)
                self._people.begin(frame.index)
                due = frame.index + self._config.window_frames - 1
            last = frame
            people = self._people.update(frame.index, frame.image)
            if frame.index >= due:
                self._score(frame, sinks)
                scored, due = frame.index, frame.index - (frame.index - due) % stride + stride
            self._report(frame, people, sinks)
        if frame is not None:
            self._end(frame, frame.index != scored and not stop.is_set(), sinks)
        return self.stats

    def _end(self, frame: Frame, unscored: bool, sinks: Sequence[Sink]) -> None:
        """The last frame of the source, or before a gap: it ends a window, even a short one, and the current alarm."""
        if unscored:
            self._score(frame, sinks)
        if event := self._alarm.finish(frame.time_s):
            self._send(event, frame, sinks)

    def _score(self, frame: Frame, sinks: Sequence[Sink]) -> None:
        """Score the window that ends with ``frame`` and update the alarm."""
        p = self._predict(frame)
        if p is None:
            return
        self.stats.count_window(p)
        end = frame.time_s + 1 / self._config.fps
        start = max(0.0, end - self._config.window_s)
        row = {"video": self._source.name, "start_s": round(start, 3), "end_s": round(end, 3), "p": round(p, 6)}
        for sink in sinks:
            sink.window(row)
        event = self._alarm.update(end, p)
        self.stats.probability, self.stats.raised = self._alarm.probability, self._alarm.raised
        if event is not None:
            self._send(event, frame, sinks)

    def _predict(self, frame: Frame) -> float | None:
        """The highest probability of any group in the window that ends with ``frame``: 0 when nobody was seen, None
        when the model of a camera did not answer."""
        window = self._people.window(frame.index)
        if not len(window.keypoints):
            return 0.0
        try:
            self._predictor.select()
            try:
                probabilities = self._ask(window.keypoints)
            except ServingError:
                # A version that came since takes other clips, perhaps: the window is not lost.
                if not self._predictor.select(fresh=True):
                    raise
                probabilities = self._ask(window.keypoints)
        except ServingError as error:
            if not self._source.live:
                raise
            if self._model_answers:
                _LOG.warning("%s: %s; watching on", self._source.name, error)
            self._model_answers = False
            self.stats.refused += 1
            return None
        if not self._model_answers:
            _LOG.warning(
                "%s: the model answers again (%d windows refused so far)", self._source.name, self.stats.refused
            )
        self._model_answers = True
        group = int(np.argmax(probabilities))
        self._ids = window.ids[group]
        return float(probabilities[group])

    def _ask(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The probabilities of the watched class from the version that answers now, and how long it took."""
        model = self._predictor
        if self.label not in model.labels or model.people != self._model_people:
            raise InputError(
                f"version {model.version} of the model has other classes or another number of people: start the watcher"
                " again"
            )
        keypoints = resample(list(windows), model.frames, model.people)
        began = time.perf_counter()
        prediction = model.predict(keypoints)
        self.stats.of_version(model.version).count_answer(time.perf_counter() - began, self._config.stride_s)
        return prediction.probabilities[:, prediction.labels.index(self.label)]

    def _send(self, event: AlarmEvent, frame: Frame, sinks: Sequence[Sink]) -> None:
        """Give the message about an alarm's begin or end to the sinks."""
        if event.kind == "raised":
            self._raised = event
            self.stats.alarms += 1
            self.stats.of_version(self._predictor.version).alarms += 1
            day = frame.wall.date() if frame.wall else ""
            # fixed when the alarm is raised: it may end on another day
            self._alarm_id = str(uuid.uuid5(_NAMESPACE, f"{self._source.name} {event.start_s:.3f} {day}"))
        self.stats.raised = event.kind == "raised"
        model = self._predictor.metadata
        message = {
            "event": "alarm" if event.kind == "raised" else "alarm_ended",
            "id": self._alarm_id,
            "source": self._source.name,
            "label": self.label,
            "probability": round(event.peak, 4),
            "start_s": round(event.start_s, 3),
            "raised_s": round((self._raised or event).at_s, 3),
            "end_s": round(event.end_s, 3) if event.kind == "ended" else None,
            "time": (frame.wall or datetime.now(UTC)).isoformat(timespec="milliseconds"),
            "persons": list(self._ids),
            "model": {k: model[k] for k in ("name", "version", "lineage", "release") if model.get(k)},
        }
        for sink in sinks:
            sink.alarm(message)

    def _report(self, frame: Frame, people: Observation, sinks: Sequence[Sink]) -> None:
        """Count a frame and give it, with the state of the alarm, to the sinks."""
        self.stats.frames += 1
        self.stats.persons, self.stats.last_s = len(people.ids), frame.time_s
        if frame.wall is not None:
            self.stats.behind_s = max(0.0, time.time() - frame.wall.timestamp())
        since = self._raised.at_s if self._alarm.raised and self._raised else None
        shown = clock(frame.time_s) if frame.wall is None else f"{frame.wall:%Y-%m-%d %H:%M:%S} UTC"
        state = AlarmState(frame.time_s, self._alarm.probability, since, self._ids, shown)
        for sink in sinks:
            sink.frame(frame, people, state)


def _alarm_label(predictor: Predictor, label: str) -> str:
    """The class that raises alarms: ``label``, else the model's positive class. Raises InputError."""
    label = label or predictor.positive
    known = ", ".join(predictor.labels)
    if not label:
        raise InputError(
            f"the model names no positive class: choose the one that raises alarms, --label, one of {known}"
        )
    found = known_as(label, predictor.labels)
    if found is None:
        raise InputError(f"{label!r} is none of the model's classes: {known}")
    return found
