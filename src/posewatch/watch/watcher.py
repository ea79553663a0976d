"""The loop over the frames of one source: track people, score windows, raise alarms, feed the sinks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch.config import PoseConfig
from posewatch.datasets.layouts import WITH_FLOW
from posewatch.errors import InputError, ServingError
from posewatch.inference.predictor import Predictor
from posewatch.names import known_as
from posewatch.perception.ports import PoseEstimator
from posewatch.recognition.sampling import fitting
from posewatch.units import PERSON, require_unit
from posewatch.video.clock import GAP_S
from posewatch.watch.annotator import AlarmState, PersonState, clock
from posewatch.watch.config import WatchConfig
from posewatch.watch.crowd import Crowd
from posewatch.watch.long_lie import LongLie
from posewatch.watch.looks import Looks, Seen
from posewatch.watch.payload import alarm_id, payload
from posewatch.watch.sinks.sink import ScoredWindow, Sink
from posewatch.watch.sources import Frame, Silence, Source, Unwatched
from posewatch.watch.states import States, Told
from posewatch.watch.stats import WatchStats
from posewatch.watch.tracked_people import Observation, TrackedPeople

_LOG = logging.getLogger(__name__)


class Watcher:
    """Watches one source with a model, of whole scenes or of single persons (``config.unit``).

    ``label`` is the class that raises alarms, ``stats`` what was done so far. Raises InputError for a model that does
    not fit the options or the estimator.
    """

    def __init__(
        self, source: Source, predictor: Predictor, estimator: PoseEstimator, pose: PoseConfig, config: WatchConfig
    ) -> None:  # fmt: skip
        require_unit(predictor.unit, config.unit, "the model", "the configuration")
        self.label, self.stats = _alarm_label(predictor, config.label), WatchStats(unit=config.unit)
        layout = (predictor.layout or estimator.layout).removesuffix(WITH_FLOW)
        if layout != estimator.layout:
            raise InputError(
                f"the model takes {layout} skeletons, the estimator {estimator.name} gives {estimator.layout}"
            )
        self._source, self._predictor, self._config = source, predictor, config
        self._model_people, self._single = predictor.people, config.unit == PERSON
        hold = round(config.hold_s * config.fps)
        self._people = TrackedPeople(estimator, pose, config.window_frames, self._model_people, hold, config.fps)
        self._people.flow = predictor.flow > 0
        self._looks = Looks(self._people, config, self.stats)
        self._states, self._crowd = States(config), Crowd(config.max_persons, source.name, self.stats)
        self._long_lie = LongLie(config.long_lie_s, config.window_s, config.hold_s)
        self._model_answers = True
        self._due, self._scored = config.window_frames - 1, -1

    def run(self, sinks: Sequence[Sink], stop: threading.Event) -> WatchStats:
        """Watch until the source ends or ``stop`` is set, then end the current alarms. A gap of the source ends them,
        and so does a time in which a camera is silent or not looked at, and another shape of its pictures, in which
        everybody is somewhere else.

        When the model does not answer, a camera is watched on: the window counts as refused, and the log says when that
        begins and ends. For a file the ServingError is raised.
        """
        last: Frame | None = None
        unwatched = False
        for frame in self._source.frames(stop):
            if not isinstance(frame, Frame):
                if last is not None:
                    self._end(last, True, sinks)
                last, unwatched = None, True
                self._unwatched(frame, sinks)
                continue
            gap = last is not None and (frame.time_s - last.time_s > GAP_S or frame.image.shape != last.image.shape)
            if last is not None and gap:  # what was before a gap has ended with it
                self._end(last, True, sinks)
            if gap or unwatched:
                self._looks.begin(frame.index)
                self._due = frame.index + self._config.window_frames - 1
            last, unwatched = frame, False
            self._take(self._looks.take(frame), sinks)
        if last is not None:
            self._end(last, not stop.is_set(), sinks)
        return self.stats

    @property
    def busy(self) -> bool:
        """Whether an alarm is on, or somebody lies on the floor after one."""
        return self.stats.raised or (self._config.long_lie_s > 0 and bool(self._long_lie.down))

    def _unwatched(self, frame: Unwatched | Silence, sinks: Sequence[Sink]) -> None:
        self.stats.persons, self.stats.behind_s = 0, 0.0
        silent = isinstance(frame, Silence)
        self.stats.unwatched += not silent
        for sink in sinks:
            (sink.silent if silent else sink.unwatched)(frame.time_s)

    def _take(self, seen: Iterable[Seen], sinks: Sequence[Sink]) -> None:
        """Frames and the people in them."""
        stride = self._config.stride_frames
        for frame, observation in seen:
            people = observation.of_persons() if self._single else observation
            self._states.saw(people.persons, frame.time_s)
            self._tell(self._long_lie.see(people, frame.time_s), frame, sinks)
            if frame.index >= self._due:
                self._score(frame, sinks)
                self._scored = frame.index
                self._due = frame.index - (frame.index - self._due) % stride + stride
            self._report(frame, people, sinks)

    def _end(self, frame: Frame, whole: bool, sinks: Sequence[Sink]) -> None:
        """The last frame of the source, or before a gap: it ends all alarms and, unless watching was stopped
        (``whole``), a window, even a short one."""
        self._take(self._looks.rest(), sinks)
        if whole and frame.index != self._scored:
            self._score(frame, sinks)
        self._tell(self._states.finish(frame.time_s), frame, sinks)
        self._tell(self._long_lie.finish(frame.time_s), frame, sinks)

    def _score(self, frame: Frame, sinks: Sequence[Sink]) -> None:
        """Score what ends with ``frame``, the scene or each person, and update the alarms."""
        end = frame.time_s + 1 / self._config.fps
        start = max(0.0, end - self._config.window_s)
        self._tell(self._states.expire(end), frame, sinks)
        scored = self._persons(frame, end) if self._single else self._scene(frame)
        model = self._predictor.metadata
        for person, (p, novelty), ids, keypoints in scored or ():
            self.stats.count_window(p, novelty)
            nobody = self._single and person is None
            told = [] if nobody else list(self._states.update(person, end, p, ids, novelty))
            smoothed = self._states.probability_of(person)
            window = ScoredWindow(person, start, end, p, smoothed, keypoints, model, novelty)
            for sink in sinks:
                sink.window(window)
            self._tell(told, frame, sinks)
        self.stats.probability = self._states.probability
        for subject in self._states.raised:
            known = (self._people.number_of(track) for track in subject.ids)
            persons = [subject.person] if subject.person is not None else [n for n in known if n is not None]
            begun = subject.first.start_s if subject.first else end
            self._long_lie.alarmed(persons, begun, end, subject.id, self._states.probability_of(subject.person))
        self._people.remember(
            self._long_lie.down, round((self._config.long_lie_s + self._config.hold_s) * self._config.fps)
        )

    def _scene(self, frame: Frame) -> list[_Scored] | None:
        """The group with the highest probability in the window that ends with ``frame``: 0 when nobody was seen. None
        when the model of a camera did not answer."""
        window = self._people.window(frame.index, self._predictor.people_by)
        if not len(window.keypoints):
            return [_NOBODY]
        answers = self._predict(window.keypoints)
        if answers is None:
            return None
        best = max(range(len(answers)), key=lambda i: answers[i][0])
        return [(None, answers[best], window.ids[best], window.keypoints[best])]

    def _persons(self, frame: Frame, end: float) -> list[_Scored] | None:
        """Each person whose turn it is in that window; one row without a person when there is none."""
        people = self._people.persons(frame.index)
        chosen = self._crowd.choose(list(people), self._states.urgent, end)
        if not chosen:
            return [_NOBODY]
        windows = np.stack([people[person] for person in chosen])
        answers = self._predict(windows)
        if answers is None:
            return None
        return [(n, answer, (n,), k) for n, answer, k in zip(chosen, answers, windows, strict=True)]

    def _predict(self, windows: NDArray[np.float32]) -> list[_Answer] | None:
        """The answers to N windows (N, M, T, V, 3); None when the model of a camera did not answer."""
        try:
            self._predictor.select()
            try:
                answers = self._ask(windows)
            except ServingError:
                # A version that came since takes other clips, perhaps: the window is not lost.
                if not self._predictor.select(fresh=True):
                    raise
                answers = self._ask(windows)
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
        self._people.flow = self._predictor.flow > 0  # of the version that answers next
        return answers

    def _ask(self, windows: NDArray[np.float32]) -> list[_Answer]:
        """What the version that answers now says of windows; how long it took is counted."""
        model = self._predictor
        require_unit(model.unit, self._config.unit, f"version {model.version} of the model", "the configuration")
        if self.label not in model.labels or model.people != self._model_people:
            raise InputError(
                f"version {model.version} of the model has other classes or another number of people: start the watcher"
                " again"
            )
        keypoints = fitting(list(windows), model)
        began = time.perf_counter()
        prediction = model.predict(keypoints)
        self.stats.of_version(model.version).count_answer(time.perf_counter() - began, self._config.stride_s)
        probabilities = prediction.probabilities[:, prediction.labels.index(self.label)].tolist()
        novelty = [None] * len(probabilities) if prediction.novelty is None else prediction.novelty.tolist()
        return list(zip(probabilities, novelty, strict=True))

    def _tell(self, told: Told, frame: Frame, sinks: Sequence[Sink]) -> None:
        """Give the messages about alarms that began or ended to the sinks."""
        for subject, event in told:
            if event.kind == "raised":
                # fixed when the alarm is raised: it may end on another day
                subject.id = alarm_id(self._source.name, subject, event, frame)
                self.stats.alarms += 1
                self.stats.of_version(self._predictor.version).alarms += 1
            message = payload(self._source.name, self.label, self._predictor.metadata, subject, event, frame)
            for sink in sinks:
                sink.alarm(message)
        self.stats.raised_alarms = len(self._states.raised) + len(self._long_lie.raised)
        self.stats.raised = self.stats.raised_alarms > 0

    def _report(self, frame: Frame, people: Observation, sinks: Sequence[Sink]) -> None:
        """Count a frame and give it, with the state of the alarms, to the sinks."""
        self.stats.frames += 1
        self.stats.persons, self.stats.last_s = len(people.ids), frame.time_s
        if frame.wall is not None:
            self.stats.behind_s = max(0.0, time.time() - frame.wall.timestamp())
        shown = clock(frame.time_s) if frame.wall is None else f"{frame.wall:%Y-%m-%d %H:%M:%S} UTC"
        raised = self._states.raised
        since = raised[0].first.at_s if raised and raised[0].first else None
        ids = tuple(n for subject in raised for n in subject.ids)
        persons = {}
        if self._single:
            on = {s.person: s.first.at_s for s in raised if s.first}
            persons = {n: PersonState(self._states.probability_of(n), on.get(n)) for n in {*people.ids, *ids}}
        lying = {n: s.first.start_s for s in self._long_lie.raised if s.first for n in s.ids}
        state = AlarmState(frame.time_s, self._states.probability, since, ids, shown, persons, lying)
        for sink in sinks:
            sink.frame(frame, people, state)


_Answer = tuple[float, float | None]
"""The probability of the watched class, and the novelty from a model that tells it."""
_Scored = tuple[int | None, _Answer, tuple[int, ...], NDArray[np.float32] | None]
"""A person (None: the scene), the answer, who to show, and the keypoints (M, T, V, 3) if there are any."""
_NOBODY: _Scored = (None, (0.0, None), (), None)


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
