"""Event metrics: the alarms that a recogniser raises on whole videos against annotated events, per hour of camera time.

``report`` computes them, ``choose_hysteresis`` picks the settings of the alarms on validation videos.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, LabelError
from posewatch.events.acts import false_alarms_by_act
from posewatch.events.alarms import Event, Hysteresis, detect, ious, match
from posewatch.events.timeline import Timeline, Window, by_video, smooth, watched_s
from posewatch.names import nfc

IOUS = (0.2, 0.5)
THRESHOLDS = 50
"""The curve of precision and recall has at most as many score thresholds."""


@dataclass
class _Counts:
    """Sums over videos: pairs at each of ``IOUS``, and the delays in seconds of the events that were found."""

    events: int = 0
    alarms: int = 0
    hits: list[int] = field(default_factory=lambda: [0] * len(IOUS))
    false: int = 0
    repeated: int = 0
    delays: list[float] = field(default_factory=list)
    live_delays: list[float] = field(default_factory=list)

    def at(self, k: int) -> dict[str, float]:
        """Precision, recall, F1 and hits at ``IOUS[k]``; a ratio with denominator 0 is 0."""
        hits = self.hits[k]
        return {
            "precision": round(hits / max(1, self.alarms), 6),
            "recall": round(hits / max(1, self.events), 6),
            "f1": round(2 * hits / max(1, self.alarms + self.events), 6),
            "hits": hits,
        }


def _alarms(timelines: Sequence[Timeline], hysteresis: Hysteresis) -> list[Event]:
    """The alarms of one video, sorted by time."""
    found = [alarm for timeline in timelines for alarm in detect(timeline, hysteresis)]
    return sorted(found, key=lambda alarm: (alarm.start_s, alarm.end_s, alarm.person or 0))


def _count(truth: Mapping[str, list[Event]], timelines: Sequence[Timeline], hysteresis: Hysteresis) -> _Counts:
    counts = _Counts(events=sum(map(len, truth.values())))
    for video, of_video in by_video(timelines).items():
        events, alarms = truth.get(video, []), _alarms(of_video, hysteresis)
        overlap = ious(events, alarms)
        first: set[int] = set()
        for event, row in zip(events, overlap, strict=True):
            on_event = np.flatnonzero(row)
            if len(on_event):
                first.add(int(on_event[0]))
                counts.delays.append(max(0.0, alarms[on_event[0]].start_s - event.start_s))
                counts.live_delays.append(max(0.0, min(alarms[j].alarm_s for j in on_event) - event.start_s))
        true_alarms = int((overlap > 0).any(0).sum())
        counts.alarms += len(alarms)
        counts.false += len(alarms) - true_alarms
        counts.repeated += true_alarms - len(first)
        for k, least in enumerate(IOUS):
            counts.hits[k] += len(match(overlap, least))
    return counts


def _prepare(
    truth: Iterable[Event], windows: Iterable[Window], label: str, step_s: float
) -> tuple[dict[str, list[Event]], list[Timeline]]:
    timelines = smooth(windows, step_s)
    if not any(timeline.covered.any() for timeline in timelines):
        raise InputError(f"the windows are shorter than the time step of {step_s:g} s: use a shorter step")
    truth, label = list(truth), nfc(label)
    kinds = sorted({event.label for event in truth})
    if not label and len(kinds) > 1:
        raise LabelError(
            f"the annotations have several labels ({', '.join(kinds)}): choose the one that raises alarms (--label)"
        )
    if label and kinds and label not in kinds:
        raise LabelError(
            f"no annotation is labelled {label!r}: found {', '.join(repr(kind) for kind in kinds)} "
            "(for videos without any event give annotations without rows)"
        )
    ends = {video: max(t.end_s for t in of_video) for video, of_video in by_video(timelines).items()}
    events: dict[str, list[Event]] = {}
    for event in truth:
        if label and event.label != label:
            continue
        if event.video not in ends:
            raise LabelError(
                f"{event.video!r} has an annotated event but no window (score that video, or leave its annotations out)"
            )
        if math.isinf(event.end_s):
            if event.start_s >= ends[event.video]:
                raise LabelError(
                    f"event of {event.video!r} at {event.start_s:g} s has no end and starts after the last window "
                    f"({ends[event.video]:g} s): give its end"
                )
            event = dataclasses.replace(event, end_s=ends[event.video])
        events.setdefault(event.video, []).append(event)
    return {video: sorted(found, key=lambda e: (e.start_s, e.end_s)) for video, found in events.items()}, timelines


def _summary(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"mean": None, "median": None, "p95": None}
    mean, median, p95 = np.mean(values), np.median(values), np.quantile(values, 0.95)
    return {"mean": round(float(mean), 6), "median": round(float(median), 6), "p95": round(float(p95), 6)}


def report(
    truth: Iterable[Event],
    windows: Iterable[Window],
    hysteresis: Hysteresis | None = None,
    *,
    label: str = "",
    step_s: float = 0.1,
) -> dict[str, Any]:
    """Metrics of the alarms that ``windows`` raise against annotated events; JSON-able.

    With ``label`` only events of that label count. In the report:

        videos, camera_hours, events, alarms, hysteresis, step_s, label
        iou_0.2, iou_0.5       {precision, recall, f1, hits, average_precision} with alarms and events matched one to
                               one at that temporal IoU at least; a ratio with denominator 0 is 0
        alarm_share            alarm time / camera time
        found, missed          events that any alarm overlaps, and that none does
        false_alarms           alarms that overlap no event, ``false_alarms_per_hour`` of camera time
        repeated_alarms        alarms on an event that are not the first one on any
        delay_s                {mean, median, p95} from the start of an event to the first alarm on it; 0 if that began
                               earlier; missed events are left out
        live_delay_s           the same until a live system can raise the alarm: the windows over the moment have ended
        false_alarms_by_act    {act: {alarms, hours, per_hour}} of these (``acts.false_alarms_by_act``)
        curve                  [{threshold, recall, precision, f1, false_alarms_per_hour}, ...] at an IoU of 0.2 with
                               ``on`` set to each threshold and ``off`` in proportion
        timelines              [{video, end_s, events [[start_s, end_s], ...], alarms [[start_s, end_s, score], ...]}];
                               an alarm about a person has their number as a fourth

    Each person of a video has alarms of their own: one on an event that somebody else's alarm is on already is a
    repeated one, unless the events say whose they are.

    ``average_precision`` is the area under precision against recall over the score threshold; precision is the best one
    at that recall or above. Raises LabelError, InputError, ConfigError.
    """
    hysteresis, truth = hysteresis or Hysteresis(), list(truth)
    events, timelines = _prepare(truth, windows, label, step_s)
    counts = _count(events, timelines, hysteresis)
    videos = by_video(timelines)
    hours = sum(map(watched_s, videos.values())) / 3600
    alarms = [_alarms(of_video, hysteresis) for of_video in videos.values()]
    ends = {video: max(t.end_s for t in of_video) for video, of_video in videos.items()}
    false = [a for a in itertools.chain(*alarms) if not ious(events.get(a.video, []), [a]).any()]
    swept = [(on, _count(events, timelines, _scaled(hysteresis, on))) for on in _thresholds(timelines)]
    return {
        "videos": len(videos),
        "camera_hours": round(hours, 6),
        "events": counts.events,
        "alarms": counts.alarms,
        "label": label,
        "step_s": step_s,
        "hysteresis": dataclasses.asdict(hysteresis),
        **{
            f"iou_{least}": counts.at(k) | {"average_precision": average_precision([c.at(k) for _, c in swept])}
            for k, least in enumerate(IOUS)
        },
        "alarm_share": round(sum(a.end_s - a.start_s for a in itertools.chain(*alarms)) / (3600 * hours), 6),
        "found": len(counts.delays),
        "missed": counts.events - len(counts.delays),
        "false_alarms": counts.false,
        "false_alarms_per_hour": round(counts.false / hours, 6),
        "false_alarms_by_act": false_alarms_by_act(truth, nfc(label), false, ends),
        "repeated_alarms": counts.repeated,
        "delay_s": _summary(counts.delays),
        "live_delay_s": _summary(counts.live_delays),
        "curve": [
            {"threshold": on, "false_alarms_per_hour": round(c.false / hours, 6)}
            | {key: c.at(0)[key] for key in ("precision", "recall", "f1")}
            for on, c in swept
        ],
        "timelines": [
            {
                "video": video,
                "end_s": round(max(t.end_s for t in videos[video]), 6),
                "events": [[e.start_s, e.end_s] for e in events.get(video, [])],
                "alarms": [[a.start_s, a.end_s, round(a.score, 6), *_whose(a)] for a in of_video],
            }
            for video, of_video in zip(videos, alarms, strict=True)
        ],
    }


def _whose(alarm: Event) -> list[int]:
    return [] if alarm.person is None else [alarm.person]


def _scaled(hysteresis: Hysteresis, on: float) -> Hysteresis:
    return dataclasses.replace(hysteresis, on=on, off=min(on, on * hysteresis.off / hysteresis.on))


def _thresholds(timelines: Sequence[Timeline]) -> list[float]:
    """The probabilities that occur, from high to low; of more than ``THRESHOLDS`` as many, evenly spaced by rank."""
    values: NDArray[np.float64] = np.unique(np.concatenate([t.p[t.covered] for t in timelines]))
    values = values[values > 0]
    if len(values) > THRESHOLDS:
        values = values[np.unique(np.linspace(0, len(values) - 1, THRESHOLDS).round().astype(int))]
    return [float(v) for v in values[::-1]]


def average_precision(points: Sequence[Mapping[str, float]]) -> float:
    """Area under the best precision at each recall or above, for points {precision, recall} in any order."""
    pairs = np.array(sorted((p["recall"], p["precision"]) for p in points), float).reshape(-1, 2)
    best = np.maximum.accumulate(pairs[::-1, 1])[::-1]
    return round(float((np.diff(pairs[:, 0], prepend=0) * best).sum()), 6)


def choose_hysteresis(
    truth: Iterable[Event],
    windows: Iterable[Window],
    *,
    label: str = "",
    step_s: float = 0.1,
    least: float = 0.2,
    start: Hysteresis | None = None,
) -> Hysteresis:
    """The settings with the best event F1 on validation videos, at the temporal IoU ``least`` (0.2 or 0.5).

    Ties are broken by the sum of F1 over all ``IOUS`` (at a low one an endless alarm finds every event), then by fewer
    false alarms, the shorter mean delay, and the distance from ``start`` (default: ``Hysteresis()``). Returns
    ``start`` where the videos have no event.
    """
    start = start or Hysteresis()
    events, timelines = _prepare(truth, windows, label, step_s)
    if not events:
        return start
    on = (start.on, *(round(0.05 * i, 2) for i in range(2, 20)))
    grid = itertools.product(on, (1.0, 0.8, 0.6), (0.0, 0.5, 1.0, 2.0), (0.0, 1.0, 2.0))
    candidates = [start, *(Hysteresis(on, round(on * ratio, 4), min_s, merge_s) for on, ratio, min_s, merge_s in grid)]

    def key(candidate: Hysteresis) -> tuple[float, ...]:
        counts = _count(events, timelines, candidate)
        f1 = [counts.at(k)["f1"] for k in range(len(IOUS))]
        delay = float(np.mean(counts.delays)) if counts.delays else math.inf
        far = abs(candidate.on - start.on) + abs(candidate.off - start.off)
        far += 0.01 * (abs(candidate.min_s - start.min_s) + abs(candidate.merge_s - start.merge_s))
        return f1[IOUS.index(least)], round(sum(f1), 6), -counts.false, -round(delay, 6), -round(far, 9)

    return max(candidates, key=key)
