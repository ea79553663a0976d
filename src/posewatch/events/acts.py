"""False alarms on whole videos by kind of act: what was annotated where nothing should have raised one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from posewatch.events.alarms import Event

UNKNOWN = "nothing annotated"


def false_alarms_by_act(
    truth: Sequence[Event], label: str, false: Iterable[Event], ends: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Act → ``alarms`` that overlap it the longest, ``hours`` of it, and alarms ``per_hour`` of these.

    The act of an annotation that is not of the ``label`` is its ``act``, else its label. ``false`` are the alarms that
    overlap no event, ``ends`` (video → seconds) where the videos end. {} where only events are annotated.
    """
    other = [event for event in truth if label and event.label != label and (event.act or event.label)]
    if not other:
        return {}
    hours: dict[str, float] = {}
    for event in other:
        length = min(event.end_s, ends.get(event.video, 0.0)) - event.start_s
        hours[_act(event)] = hours.get(_act(event), 0.0) + max(0.0, length) / 3600
    counts = dict.fromkeys(hours, 0)
    for alarm in false:
        here = [event for event in other if event.video == alarm.video and _shared(event, alarm) > 0]
        act = _act(max(here, key=lambda event: _shared(event, alarm))) if here else UNKNOWN
        counts[act] = counts.get(act, 0) + 1
    return {
        act: {
            "alarms": count,
            "hours": round(hours.get(act, 0.0), 6),
            "per_hour": round(count / hours[act], 6) if hours.get(act) else None,
        }
        for act, count in sorted(counts.items())
    }


def _act(event: Event) -> str:
    return event.act or event.label


def _shared(a: Event, b: Event) -> float:
    """Seconds of both."""
    return min(a.end_s, b.end_s) - max(a.start_s, b.start_s)
