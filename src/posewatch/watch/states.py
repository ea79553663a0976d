"""The alarm states of one source: one of the scene, or one of each person who is asked about."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from posewatch.watch.alarm import AlarmEvent, LiveAlarm
from posewatch.watch.config import WatchConfig


@dataclass
class Subject:
    """Whom an alarm is about: the scene (``person`` None), or a person by number. ``ids`` are who to show.

    ``id``, ``first`` (the event that raised it) and ``times`` (how often it was raised) belong to the alarm that is
    on, or that was the last. ``rule`` is what raised it.
    """

    person: int | None
    ids: tuple[int, ...] = ()
    rule: str = "recogniser"
    id: str = ""
    of: str = ""
    """The id of the alarm that this one follows from."""
    first: AlarmEvent | None = None
    times: int = 0
    reason: str = ""
    """Why it ended, where that is no matter of course."""
    novelty: float | None = None
    """The highest of its windows so far, where the model tells it."""


@dataclass
class _State:
    subject: Subject
    live: LiveAlarm
    seen_s: float
    over: AlarmEvent | None = None
    """An alarm that ended, and that goes on if it is raised again soon."""
    peak: float = 0.0


Told = Iterable[tuple[Subject, AlarmEvent]]
"""What there is to tell: whom an alarm is about, and that it was raised or has ended."""


class States:
    """Takes the probabilities of windows as they come in, and tells which alarms are raised and end.

    An alarm of somebody that is raised again within ``repeat_s`` seconds of its end is the same alarm: only the first
    beginning and the last end are told. A person who is not seen for ``hold_s`` seconds is gone, and their alarm ends.
    """

    def __init__(self, config: WatchConfig) -> None:
        self._config = config
        self._states: dict[int | None, _State] = {}

    @property
    def probability(self) -> float:
        """The highest smoothed probability of anybody."""
        return max((s.live.probability for s in self._states.values()), default=0.0)

    def probability_of(self, person: int | None) -> float:
        """The smoothed probability of the scene or a person, as of their last window."""
        state = self._states.get(person)
        return state.live.probability if state else 0.0

    @property
    def raised(self) -> list[Subject]:
        """Whom there is an alarm about now, the earliest first."""
        on = [s.subject for s in self._states.values() if s.live.raised]
        return sorted(on, key=lambda subject: subject.first.at_s if subject.first else 0.0)

    @property
    def urgent(self) -> set[int]:
        """The persons with an alarm that is on, or has begun."""
        return {p for p, s in self._states.items() if p is not None and s.live.begun}

    def saw(self, persons: Collection[int], at_s: float) -> None:
        """These persons were seen at ``at_s``."""
        for person in persons:
            if person in self._states:
                self._states[person].seen_s = at_s

    def update(
        self, person: int | None, at_s: float, p: float, ids: tuple[int, ...] = (), novelty: float | None = None
    ) -> Told:
        """Add the probability ``p`` of the window that ends at ``at_s`` seconds, and how strange it is."""
        state = self._states.get(person)
        if state is None:
            config = self._config
            live = LiveAlarm(config.hysteresis, config.window_s, config.smooth)
            state = self._states[person] = _State(Subject(person), live, at_s)
        if ids:
            state.subject.ids = ids
        before = state.live.begun
        event = state.live.update(at_s, p)
        if state.live.begun and not before and state.over is None:
            state.subject.novelty = None
        if novelty is not None and state.live.begun:
            state.subject.novelty = max(novelty, state.subject.novelty or 0.0)
        if event is not None:
            yield from self._take(state, event)

    def expire(self, at_s: float) -> Told:
        """What has ended by ``at_s`` without another window: persons who are gone, repetitions that did not come."""
        for person, state in list(self._states.items()):
            if person is not None and at_s - state.seen_s > self._config.hold_s:
                state.subject.reason = "lost"
                yield from self._finish(state, at_s)
                del self._states[person]
            elif state.over is not None and at_s - state.over.at_s > self._config.repeat_s:
                yield state.subject, state.over
                state.over = None

    def finish(self, at_s: float) -> Told:
        """The source ended at ``at_s``, or a gap of it begins: so do all alarms."""
        for state in self._states.values():
            yield from self._finish(state, at_s)
        self._states.clear()

    def _finish(self, state: _State, at_s: float) -> Told:
        if (event := state.live.finish(at_s)) is not None:
            yield from self._take(state, event)
        if state.over is not None:
            yield state.subject, state.over
            state.over = None

    def _take(self, state: _State, event: AlarmEvent) -> Told:
        subject, over = state.subject, state.over
        if event.kind == "raised":
            state.over = None
            if over is not None and event.at_s - over.at_s <= self._config.repeat_s:
                subject.times += 1
                return
            if over is not None:
                yield subject, over
            subject.first, subject.times, subject.reason, state.peak = event, 1, "", 0.0
            yield subject, event
            return
        state.peak = max(state.peak, event.peak)
        whole = replace(event, start_s=(subject.first or event).start_s, peak=state.peak)
        if self._config.repeat_s:
            state.over = whole
        else:
            yield subject, whole
