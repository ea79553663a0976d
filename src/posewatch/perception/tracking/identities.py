"""Persons of the single frames of a clip → persons of the clip: one index per person from beginning to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from posewatch.perception.tracking.tracker import Tracker, near
from posewatch.records import Detections

Floats = NDArray[np.float32]

_FLICKER = 3
"""Somebody seen in fewer frames than this (and less than the whole clip) is taken for a false alarm."""
_GUESSED = 0.5
"""Interpolated joints get this share of the lower score at the two ends of the gap."""


@dataclass
class _Person:
    """Frames in which one person was seen: frame → (box (4,), keypoints (V, 3))."""

    seen: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)

    @property
    def first(self) -> int:
        return min(self.seen)

    @property
    def last(self) -> int:
        return max(self.seen)

    def rank(self) -> tuple[float, float, int]:
        """Sort key: most present first, then best seen, then earliest."""
        return -len(self.seen), -float(np.mean([k[:, 2].mean() for _, k in self.seen.values()])), self.first


def track(frames: Sequence[Detections], people: int, hold: int, joints: int = 17) -> Floats:
    """Keypoints (M, T, V, 3) of the ``people`` most present persons, sorted by presence; absent ones are zero.

    Gaps of at most ``hold`` frames are interpolated with a reduced score. Every given detection counts: weak ones
    are left out before.
    """
    persons: dict[int, _Person] = {}
    tracker = Tracker(0.0, hold)
    for t, found in enumerate(frames):
        for followed, i in tracker.update(found):
            if found.keypoints is not None:
                persons.setdefault(followed.id, _Person()).seen[t] = (found.boxes[i], found.keypoints[i])
    joined = _join([persons[i] for i in sorted(persons)])
    lasting = [p for p in joined if len(p.seen) >= min(_FLICKER, len(frames))]
    out = np.zeros((people, max(1, len(frames)), joints, 3), np.float32)
    for m, person in enumerate(sorted(lasting, key=_Person.rank)[:people]):
        _fill(out[m], person, hold)
    np.nan_to_num(out, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    out[..., 2] = np.clip(out[..., 2], 0, 1)
    out[out[..., 2] == 0] = 0  # a joint that was not seen has no place
    return out


def _join(persons: Sequence[_Person]) -> list[_Person]:
    """A person who was lost and turns up again nearby is the same one, not a second."""
    joined: list[_Person] = []
    for person in sorted(persons, key=lambda p: (p.first, p.last)):
        best, place = 0.0, None
        for earlier in joined:
            if earlier.last < person.first:
                before, after = earlier.seen[earlier.last][0], person.seen[person.first][0]
                close = float(near(before[None], after[None])[0, 0])
                if close > best:
                    best, place = close, earlier
        if place is None:
            joined.append(_Person(dict(person.seen)))
        else:
            place.seen.update(person.seen)
    return joined


def _fill(out: Floats, person: _Person, hold: int) -> None:
    """Write one person's keypoints into (T, V, 3), gaps of at most ``hold`` frames interpolated."""
    times = sorted(person.seen)
    for t in times:
        out[t] = person.seen[t][1]
    for a, b in pairwise(times):
        if not 1 < b - a <= hold + 1:
            continue
        for t in range(a + 1, b):
            share = np.float32((t - a) / (b - a))
            out[t, :, :2] = (1 - share) * out[a, :, :2] + share * out[b, :, :2]
            out[t, :, 2] = _GUESSED * np.minimum(out[a, :, 2], out[b, :, 2])
