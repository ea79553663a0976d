"""Alarms from a timeline's probabilities by hysteresis, and the matching of alarms with annotated events."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import ConfigError, LabelError
from posewatch.events.timeline import Timeline
from posewatch.names import nfc


@dataclass(frozen=True)
class Event:
    """An annotated event or an alarm in ``video`` in [start_s, end_s) seconds.

    An annotation's ``end_s`` may be infinite: until the video ends. An alarm's ``score`` is the highest probability in
    it, and ``alarm_s`` the second at which a live system, which waits for windows to end, can raise it. ``person`` is
    whom it is about, None where nobody says, ``act`` what is done in an annotation, finer than its label.
    """

    video: str
    start_s: float
    end_s: float
    label: str = ""
    score: float = 1.0
    alarm_s: float = 0.0
    person: int | None = None
    act: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "video", nfc(self.video))
        object.__setattr__(self, "label", nfc(self.label))
        where = f"event of {self.video!r}"
        if math.isnan(self.start_s) or math.isnan(self.end_s) or math.isinf(self.start_s) or self.start_s < 0:
            raise LabelError(f"{where}: times must be 0 or more seconds, not {self.start_s:g} and {self.end_s:g}")
        if self.end_s <= self.start_s:
            raise LabelError(f"{where} at {self.start_s:g} s ends at {self.end_s:g} s, before it starts")


@dataclass(frozen=True)
class Hysteresis:
    """An alarm begins where the probability reaches ``on`` and lasts while it is at least ``off``.

    Alarms less than ``merge_s`` seconds apart are merged (0: never), then those shorter than ``min_s`` seconds dropped.
    """

    on: float = 0.5
    off: float = 0.4
    min_s: float = 0.0
    merge_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.off <= self.on <= 1:
            raise ConfigError(f"thresholds must hold 0 < off <= on <= 1, not off {self.off:g} and on {self.on:g}")


def detect(timeline: Timeline, hysteresis: Hysteresis) -> list[Event]:
    """The alarms of one timeline, sorted by time."""
    p, step = timeline.p, timeline.step_s
    high = p >= hysteresis.off
    edges = np.flatnonzero(np.diff(high, prepend=False, append=False))
    runs: list[list[int]] = []
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        on = np.flatnonzero(p[a:b] >= hysteresis.on)
        if not len(on):
            continue
        start = int(a + on[0])
        if runs and (start - runs[-1][1]) * step < hysteresis.merge_s - 1e-9:
            runs[-1][1] = int(b)
        else:
            runs.append([start, int(b)])
    # An alarm can be raised once the cell is known with which it lasts min_s.
    lead = max(math.ceil(hysteresis.min_s / step - 1e-9), 1) - 1
    return [
        Event(
            timeline.video,
            round(a * step, 9),
            round(b * step, 9),
            score=float(p[a:b].max()),
            alarm_s=float(timeline.ready_s[a : a + lead + 1].max()),
            person=timeline.person,
        )
        for a, b in runs
        if (b - a) * step >= hysteresis.min_s - 1e-9
    ]


def ious(truth: Sequence[Event], alarms: Sequence[Event]) -> NDArray[np.float64]:
    """Temporal intersection over union (E, A) of the events and the alarms of one video; 0 where they only touch, or
    are about two persons."""
    a = np.array([(e.start_s, e.end_s) for e in truth], float).reshape(-1, 1, 2)
    b = np.array([(e.start_s, e.end_s) for e in alarms], float).reshape(1, -1, 2)
    both = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
    either = np.maximum(a[..., 1], b[..., 1]) - np.minimum(a[..., 0], b[..., 0])
    who = np.array([[e.person is not None and a.person not in (None, e.person) for a in alarms] for e in truth], bool)
    return np.where((both > 1e-9) & ~who.reshape(both.shape), both / either, 0.0)


def match(overlap: NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """As many pairs (event, alarm) as possible, each used once, with an IoU (E, A) of ``least`` or more."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    alarm_of = maximum_bipartite_matching(csr_array((overlap > 0) & (overlap >= least - 1e-9)), perm_type="column")
    return [(event, int(alarm)) for event, alarm in enumerate(alarm_of) if alarm >= 0]
