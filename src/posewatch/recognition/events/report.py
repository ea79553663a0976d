"""How good a recogniser is on timelines: its alarms against what people annotated, in a camera's hours.

``report`` measures, ``choose_hysteresis`` picks the settings of the alarms on validation videos.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import ConfigError, InputError, LabelError
from posewatch.recognition.evaluation.metrics import ratio
from posewatch.recognition.events.alarms import Event, Hysteresis, detect, ious, match
from posewatch.recognition.events.timeline import Timeline, Window, sliding, smooth

__all__ = ["Event", "Hysteresis", "Timeline", "Window", "choose_hysteresis", "detect", "report", "sliding", "smooth"]

IOUS = (0.2, 0.5)
THRESHOLDS = 50
"""Score thresholds at the most that the curve of precision and recall is drawn from."""


@dataclass(frozen=True)
class _Counts:
    """Sums over videos: pairs at each of ``IOUS``, and the delays in seconds of the events that were found."""

    truth: int
    alarms: int
    hits: tuple[int, ...]
    found: int
    false: int
    repeated: int
    delays: tuple[float, ...]
    live: tuple[float, ...]


def _count(truth: Mapping[str, list[Event]], timelines: Sequence[Timeline], hysteresis: Hysteresis) -> _Counts:
    alarms_total = false = found = repeated = 0
    hits = [0] * len(IOUS)
    delays: list[float] = []
    live: list[float] = []
    for timeline in timelines:
        events, alarms = truth.get(timeline.video, []), detect(timeline, hysteresis)
        alarms_total += len(alarms)
        overlap = ious(events, alarms)
        for k, least in enumerate(IOUS):
            hits[k] += len(match(overlap, least))
        first: set[int] = set()
        for event, row in zip(events, overlap, strict=True):
            those = np.flatnonzero(row)
            if len(those):
                found += 1
                first.add(int(those[0]))
                delays.append(max(0.0, alarms[those[0]].start_s - event.start_s))
                live.append(max(0.0, min(alarms[j].alarm_s for j in those) - event.start_s))
        touched = int((overlap > 0).any(0).sum())
        false += len(alarms) - touched
        repeated += touched - len(first)
    count = sum(map(len, truth.values()))
    return _Counts(count, alarms_total, tuple(hits), found, false, repeated, tuple(delays), tuple(live))


def _prepare(
    truth: Iterable[Event], windows: Iterable[Window], label: str, step_s: float
) -> tuple[dict[str, list[Event]], list[Timeline]]:
    timelines = smooth(windows, step_s)
    if not any(timeline.covered.any() for timeline in timelines):
        raise InputError(f"the windows are shorter than the time step of {step_s:g} s: take a shorter step")
    truth = list(truth)
    kinds = sorted({event.label for event in truth})
    if not label and len(kinds) > 1:
        raise LabelError(f"the annotations have several labels ({', '.join(kinds)}): say which is to raise alarms")
    if label and kinds and label not in kinds:
        raise LabelError(
            f"no annotation is labelled {label!r}: found {', '.join(repr(kind) for kind in kinds)} "
            "(for videos without any event give annotations without rows)"
        )
    ends = {timeline.video: timeline.end_s for timeline in timelines}
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
    return {
        "mean": round(float(np.mean(values)), 6),
        "median": round(float(np.median(values)), 6),
        "p95": round(float(np.quantile(values, 0.95)), 6),
    }


def _at(counts: _Counts, k: int) -> dict[str, float]:
    hits = counts.hits[k]
    return {
        "precision": ratio(hits, counts.alarms),
        "recall": ratio(hits, counts.truth),
        "f1": ratio(2 * hits, counts.alarms + counts.truth),
        "hits": hits,
    }


def report(
    truth: Iterable[Event],
    windows: Iterable[Window],
    hysteresis: Hysteresis | None = None,
    *,
    label: str = "",
    step_s: float = 0.1,
) -> dict[str, Any]:
    """Measure the alarms that ``windows`` raise against annotated events; JSON-able.

    With ``label`` only events so labelled count. In the report:

        videos, camera_hours, events, alarms, hysteresis, step_s, label
        iou_0.2, iou_0.5       {precision, recall, f1, hits, average_precision} with alarms and events paired one to one
                               at that temporal IoU at least; a ratio with nothing below the line is 0
        alarm_share            of the camera time
        found, missed          events that any alarm overlaps, and that none does
        false_alarms           alarms during which nothing annotated happens, ``false_alarms_per_hour`` of camera time
        repeated_alarms        alarms on an event that are not the first one on any
        delay_s                {mean, median, p95} from the start of an event to the first alarm in it; 0 if that is on
                               already; missed events do not enter
        live_delay_s           the same to when a live system knows: once the windows that cover the moment have ended
        curve                  [{threshold, recall, precision, f1, false_alarms_per_hour}, ...] at an IoU of 0.2 with
                               ``on`` set to each threshold and ``off`` in proportion
        timelines              [{video, end_s, events [[start_s, end_s], ...], alarms [[start_s, end_s, score], ...]}]

    ``average_precision`` is the area under precision against recall over the score threshold, precision being the best
    one at that recall or above. Raises LabelError, InputError, ConfigError.
    """
    hysteresis = hysteresis or Hysteresis()
    events, timelines = _prepare(truth, windows, label, step_s)
    counts = _count(events, timelines, hysteresis)
    hours = sum(timeline.watched_s for timeline in timelines) / 3600
    alarms = [detect(timeline, hysteresis) for timeline in timelines]
    swept = [(on, _count(events, timelines, _scaled(hysteresis, on))) for on in _thresholds(timelines)]
    return {
        "videos": len(timelines),
        "camera_hours": round(hours, 6),
        "events": counts.truth,
        "alarms": counts.alarms,
        "label": label,
        "step_s": step_s,
        "hysteresis": dataclasses.asdict(hysteresis),
        **{
            f"iou_{least}": _at(counts, k) | {"average_precision": average_precision([_at(c, k) for _, c in swept])}
            for k, least in enumerate(IOUS)
        },
        "alarm_share": round(sum(a.end_s - a.start_s for a in itertools.chain(*alarms)) / (3600 * hours), 6),
        "found": counts.found,
        "missed": counts.truth - counts.found,
        "false_alarms": counts.false,
        "false_alarms_per_hour": round(counts.false / hours, 6),
        "repeated_alarms": counts.repeated,
        "delay_s": _summary(counts.delays),
        "live_delay_s": _summary(counts.live),
        "curve": [
            {"threshold": on}
            | {k: v for k, v in _at(c, 0).items() if k != "hits"}
            | {"false_alarms_per_hour": round(c.false / hours, 6)}
            for on, c in swept
        ],
        "timelines": [
            {
                "video": t.video,
                "end_s": round(t.end_s, 6),
                "events": [[e.start_s, e.end_s] for e in events.get(t.video, [])],
                "alarms": [[a.start_s, a.end_s, round(a.score, 6)] for a in found],
            }
            for t, found in zip(timelines, alarms, strict=True)
        ],
    }


def _scaled(hysteresis: Hysteresis, on: float) -> Hysteresis:
    return dataclasses.replace(hysteresis, on=on, off=min(on, on * hysteresis.off / hysteresis.on))


def _thresholds(timelines: Sequence[Timeline]) -> list[float]:
    """Thresholds that make a difference: the probabilities themselves, thinned out evenly by rank, from high to low."""
    values: NDArray[np.float64] = np.unique(np.concatenate([t.p[t.covered] for t in timelines]))
    values = values[values > 0]
    if len(values) > THRESHOLDS:
        values = values[np.unique(np.linspace(0, len(values) - 1, THRESHOLDS).round().astype(int))]
    return [float(v) for v in values[::-1]]


def average_precision(points: Sequence[Mapping[str, float]]) -> float:
    """Area under the best precision at each recall or above, for points {precision, recall} in any order."""
    pairs = sorted((float(p["recall"]), float(p["precision"])) for p in points)
    area, best, above = 0.0, 0.0, 0.0
    for recall, precision in reversed(pairs):
        if best:
            area += (above - recall) * best
        above, best = recall, max(best, precision)
    return round(area + above * best, 6)


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

    Of equally good ones those that are better at the other IoU, too (an alarm that never ends finds every event), then
    those with the fewest false alarms, the shortest mean delay, and the nearest to ``start`` (default:
    ``Hysteresis()``). Without any event among the videos nothing can be chosen, and ``start`` is returned.
    """
    if least not in IOUS:
        raise ConfigError(f"the IoU must be one of {', '.join(map(str, IOUS))}, not {least:g}")
    start = start or Hysteresis()
    events, timelines = _prepare(truth, windows, label, step_s)
    if not events:
        return start
    k = IOUS.index(least)
    best, chosen = (-1.0,) * 5, start
    grid = itertools.product(
        (start.on, *(round(0.05 * i, 2) for i in range(2, 20))), (1.0, 0.8, 0.6), (0.0, 0.5, 1.0, 2.0), (0.0, 1.0, 2.0)
    )
    for candidate in [start, *(Hysteresis(on, round(on * part, 4), shortest, gap) for on, part, shortest, gap in grid)]:
        c = _count(events, timelines, candidate)
        delay = float(np.mean(c.delays)) if c.delays else math.inf
        far = abs(candidate.on - start.on) + abs(candidate.off - start.off)
        far += 0.01 * (abs(candidate.min_s - start.min_s) + abs(candidate.merge_s - start.merge_s))
        every = sum(_at(c, i)["f1"] for i in range(len(IOUS)))
        key = (_at(c, k)["f1"], round(every, 6), -float(c.false), -round(delay, 6), -round(far, 9))
        if key > best:
            best, chosen = key, candidate
    return chosen
