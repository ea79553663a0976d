"""When a picture is shown: the one place that decides it, for files, recordings and live cameras.

The rules, in docs/video.md for users: every picture has a time of its own, later than the one before. A clock that is
set back goes on where it was. A clock that only counts (a transport stream, a camera) and steps ahead by more than
``GAP_S`` was set, too; in a format with an index of times the step is a gap. The limit is that of FFmpeg.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

GAP_S = 10.0
"""A picture stays on the screen until the next one, at most for so long (or four usual steps): beyond it is a gap."""
REORDER = 16
"""Pictures by which decoding order may differ from the order of showing: the most that H.264 and HEVC allow."""
_STEADY = 2 * REORDER
"""After so many pictures in order a codec is taken to have no B-frames."""
_LEAST_S = 0.001
"""Between the times of two pictures of a camera."""


@dataclass(frozen=True)
class Stamp:
    """What a container says of one picture, in seconds: when it is shown, when decoded, how long it lasts."""

    pts: float | None
    dts: float | None = None
    lasts: float = 0.0


@dataclass(frozen=True)
class Gap:
    """``length_s`` seconds without a picture, from ``start_s`` on."""

    start_s: float
    length_s: float


@dataclass(frozen=True)
class Jump:
    """The clock was set by ``by_s`` seconds at ``at_s``, before picture number ``picture`` in the order of decoding."""

    picture: int
    at_s: float
    by_s: float


class Clock:
    """The times of a stream's pictures, one by one in the order of decoding.

    ``step_s`` is the usual time between two; ``counting``: the clock only counts (see above); ``in_order``: the
    pictures come in the order of showing. ``jumps`` holds every time that the clock was set, forwards or backwards.
    """

    def __init__(self, step_s: float, counting: bool, *, in_order: bool = False) -> None:
        self.step_s, self.counting, self._in_order = step_s, counting, in_order
        self.arrived = False
        """Whether the last time is that of a camera's picture's arrival."""
        self.jumps: list[Jump] = []
        self._shift: float | None = None
        self._high = self._dts = self._end = -math.inf  # of the pictures so far, on this clock
        self._seen, self._reorders = 0, False
        self._waited_s = self._mark_waited_s = self._mark_s = 0.0
        self._believed = True

    def __call__(self, stamp: Stamp, waited_s: float | None = None) -> float:
        """The time of the next picture, in seconds of the stream's first clock.

        For a camera ``waited_s`` are the seconds since the picture before arrived: they decide where the stamps do not,
        because there are none, or they stand still, or run at less than half of real time.
        """
        live = waited_s is not None
        usual = max(self.step_s, waited_s or 0.0)
        raw = stamp.pts if stamp.pts is not None else stamp.dts
        self.arrived = live and (raw is None or not self._believed)
        if raw is None or not math.isfinite(raw) or not self._believed:
            first = self._high == -math.inf
            time = 0.0 if first else (self._high + max(_LEAST_S, waited_s or 0.0) if live else self._end)
            return self._take(time, stamp, waited_s)
        if self._shift is None:
            self._shift = 0.0 if self._high == -math.inf else self._high + usual - raw
        time = raw + self._shift
        decoded = time if stamp.dts is None else stamp.dts + self._shift
        ahead = time - self._high
        many = not self._in_order and (self._reorders or self._seen < _STEADY)
        reach = self.step_s * (REORDER if many else 2)
        back = ahead < -reach and decoded < self._dts - reach
        if live and not back and (ahead == 0 or (ahead < 0 and self._in_order)):  # a clock that stands still
            return self._take(self._high + max(_LEAST_S, waited_s or 0.0), stamp, waited_s)
        set_ahead = self.counting and self._seen > 0 and ahead > GAP_S + (waited_s or 0.0)
        if back or set_ahead:
            follow = self._high + usual if live else self._end
            self.jumps.append(Jump(self._seen, follow, ahead))
            self._shift += follow - time
            time = follow
        self._reorders = self._reorders or -reach <= ahead < 0 or (stamp.dts is not None and stamp.dts != stamp.pts)
        return self._take(time, stamp, waited_s)

    def _take(self, time: float, stamp: Stamp, waited_s: float | None) -> float:
        self._seen += 1
        self._high = max(self._high, time)
        self._end = max(self._end, time + (min(stamp.lasts, GAP_S) or self.step_s))
        if stamp.dts is not None and self._shift is not None:
            self._dts = max(self._dts, stamp.dts + self._shift)
        elif self._shift is not None:
            self._dts = max(self._dts, time - self.step_s * (REORDER if self._reorders else 0))
        if waited_s is not None and self._believed:
            self._waited_s += waited_s
            if self._waited_s - self._mark_waited_s >= GAP_S:
                self._believed = time - self._mark_s >= (self._waited_s - self._mark_waited_s) / 2
                self._mark_waited_s, self._mark_s = self._waited_s, time
        return time


@dataclass(frozen=True)
class Timeline:
    """The times of all pictures of a file.

    ``times[k]`` is when the k-th packet's picture is shown, in seconds on the player's clock; ``regular``: these are
    the container's own times less ``origin_s``. ``by_order``: the container does not say which picture is shown when;
    they take the times in order. A picture stays for ``limit_s`` at most, and before a gap for ``step_s``.
    """

    times: tuple[float, ...]
    duration_s: float
    gaps: tuple[Gap, ...] = ()
    jumps: tuple[Jump, ...] = ()
    moved: int = 0
    """Pictures that shared the time of another, or had none."""
    regular: bool = True
    by_order: bool = False
    origin_s: float = 0.0
    step_s: float = 1 / 25
    limit_s: float = GAP_S

    @property
    def shown_s(self) -> float:
        """The seconds in which there is a picture."""
        return self.duration_s - sum(gap.length_s for gap in self.gaps)


def timeline(
    stamps: Sequence[Stamp],
    step_s: float,
    *,
    counting: bool = False,
    by_order: bool = False,
    begins_s: float | None = None,
    lead_s: float = 0.0,
) -> Timeline:
    """The times of a file's pictures, in the order of decoding.

    ``step_s`` is the declared time between two pictures, ``begins_s`` where the container says that the first is shown,
    ``lead_s`` for how long there is sound before it. ``counting`` as for ``Clock``, ``by_order`` as in ``Timeline``.
    """
    stamps = [Stamp(s.dts, s.dts, s.lasts) for s in stamps] if by_order else list(stamps)
    step = _usual_step(stamps, step_s)
    cleaned = _without_spikes(stamps, step)
    clock = Clock(step, counting)
    times = [clock(stamp) for stamp in cleaned]
    order = sorted(range(len(times)), key=times.__getitem__)
    moved = _spread(times, order, step)
    regular = not (clock.jumps or moved or by_order) and all(t == s.pts for t, s in zip(times, stamps, strict=True))
    start = times[order[0]] if order else 0.0
    limit = max(GAP_S, 4 * step) + 1e-6
    last = order[-1] if order else None
    # with B-frames it is another picture than the one before a gap to which the container gives the gap's length
    ends_s = (
        t + (s.lasts or step_s)
        for k, (t, s) in enumerate(zip(times, stamps, strict=True))
        if k == last or s.lasts <= limit
    )
    end = max(ends_s, default=step_s)
    origin = start if not regular or begins_s is None or abs(begins_s - start) > 0.5 else begins_s
    edges = [times[k] for k in order] + [end]
    gaps = [Gap(0.0, lead_s)] if lead_s > limit else []
    gaps += [Gap(a + step - start + lead_s, b - a - step) for a, b in pairwise(edges) if b - a > limit]
    return Timeline(
        times=tuple(t - origin + lead_s for t in times),
        duration_s=max(end - start, step_s) + lead_s,
        gaps=tuple(gaps),
        jumps=tuple(Jump(j.picture, j.at_s - start + lead_s, j.by_s) for j in clock.jumps),
        moved=moved,
        regular=regular,
        by_order=by_order,
        origin_s=origin - lead_s,
        step_s=step,
        limit_s=limit,
    )


def _usual_step(stamps: Sequence[Stamp], step_s: float) -> float:
    """The median time between two pictures: a declared mean rate counts the gaps, too."""
    counted = [s.dts if s.dts is not None else s.pts for s in stamps]
    steps = [b - a for a, b in pairwise(counted) if a is not None and b is not None and b > a]
    return statistics.median_low(steps) if steps else step_s


def _without_spikes(stamps: Sequence[Stamp], step: float) -> list[Stamp]:
    """The stamps; one far from those before it, when all that follow are near these again, is dropped."""
    out = list(stamps)
    high: float | None = None
    for k, stamp in enumerate(out):
        if stamp.pts is None:
            continue
        if high is not None and not high - REORDER * step <= stamp.pts <= high + GAP_S:
            after = [s.pts for s in out[k + 1 : k + 1 + REORDER] if s.pts is not None]
            near = GAP_S / 2 + REORDER * step
            if after and all(abs(p - high) <= near < abs(p - stamp.pts) for p in after):
                out[k] = Stamp(None, None, stamp.lasts)
                continue
            high = stamp.pts
        high = stamp.pts if high is None else max(high, stamp.pts)
    return out


def _spread(times: list[float], order: Sequence[int], step: float) -> int:
    """Give pictures of the same time times of their own, before the next one; how many were moved."""
    moved, i, share = 0, 0, step
    while i < len(order):
        at, same = times[order[i]], i + 1
        while same < len(order) and times[order[same]] - at < 1e-6:
            same += 1
        count = same - i
        if same < len(order):  # else the last ones are as far apart as those before
            share = min(step, (times[order[same]] - at) / count)
        for n in range(1, count):
            times[order[i + n]] = at + n * share
        moved += count - 1
        i = same
    return moved
