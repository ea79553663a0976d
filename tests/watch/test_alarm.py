"""When an alarm begins and ends, window by window."""

from __future__ import annotations

import pytest

from posewatch.errors import ConfigError
from posewatch.events.alarms import Hysteresis
from posewatch.watch.alarm import AlarmEvent, LiveAlarm


def _play(alarm: LiveAlarm, probabilities: list[float], step_s: float = 0.5) -> list[AlarmEvent]:
    events = [alarm.update(3 + i * step_s, p) for i, p in enumerate(probabilities)]
    return [event for event in events if event]


def test_it_begins_at_on_and_ends_below_off() -> None:
    alarm = LiveAlarm(Hysteresis(0.6, 0.4), window_s=2, smooth=1)
    raised, ended = _play(alarm, [0.1, 0.5, 0.7, 0.5, 0.9, 0.45, 0.3, 0.5])
    assert (raised.kind, raised.at_s, raised.start_s, raised.peak) == ("raised", 4.0, 3.0, 0.7)
    assert (ended.kind, ended.at_s, ended.start_s, ended.end_s, ended.peak) == ("ended", 6.0, 3.0, 4.5, 0.9)
    assert not alarm.raised


def test_one_high_window_is_not_enough_when_two_are_averaged() -> None:
    assert _play(LiveAlarm(Hysteresis(0.6, 0.4), 2, smooth=2), [0.1, 0.9, 0.1, 0.1]) == []
    (raised,) = _play(LiveAlarm(Hysteresis(0.6, 0.4), 2, smooth=2), [0.1, 0.9, 0.9])
    assert raised.at_s == 4.0


def test_it_must_last_and_a_short_calm_does_not_end_it() -> None:
    limits = Hysteresis(0.5, 0.4, min_s=1.0, merge_s=1.0)
    assert _play(LiveAlarm(limits, 2, 1), [0.9, 0.9, 0.1, 0.9, 0.1]) == []
    raised, ended = _play(LiveAlarm(limits, 2, 1), [0.9, 0.9, 0.9, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1])
    assert (raised.at_s, raised.start_s) == (4.0, 2.0)
    assert (ended.at_s, ended.end_s) == (7.0, 4.5)


def test_what_goes_on_at_the_end_is_ended() -> None:
    alarm = LiveAlarm(Hysteresis(0.5, 0.4), 2, 1)
    assert len(_play(alarm, [0.9])) == 1
    event = alarm.finish(3.2)
    assert event is not None
    assert event.kind == "ended"
    assert alarm.finish(3.3) is None
    with pytest.raises(ConfigError, match="at least 1 window"):
        LiveAlarm(Hysteresis(), 2, 0)
