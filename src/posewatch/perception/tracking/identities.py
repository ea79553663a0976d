"""Persons of the single frames of a clip → skeletons of the clip: one index per person from beginning to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from posewatch.perception.tracking.tracker import Tracker, near
from posewatch.records import Detections

Floats = NDArray[np.float32]

_MIN_FRAMES = 3
"""A person in fewer frames than this (and fewer than the clip has) is taken for a false detection."""
_INTERPOLATED = 0.5
"""Interpolated joints get this share of the lower score at the two ends of the gap."""


@dataclass
class _Person:
    """The detections of one person: frame → (box (4,), keypoints (V, 3))."""

    frames: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)

    @property
    def first(self) -> int:
        return min(self.frames)

    @property
    def last(self) -> int:
        return max(self.frames)

    def rank(self) -> tuple[float, float, int]:
        """Sort key: most frames first, then the highest mean score, then the earliest."""
        return -len(self.frames), -float(np.mean([k[:, 2].mean() for _, k in self.frames.values()])), self.first


def track(frames: Sequence[Detections], people: int, hold: int, joints: int = 17) -> Floats:
    """Keypoints (M, T, V, 3) of the ``people`` persons with the most frames, in that order; zero where there are fewer.

    Gaps of at most ``hold`` frames are interpolated with a reduced score. All detections count, so weak ones are to be
    removed before.
    """
    persons: dict[int, _Person] = {}
    tracker = Tracker(0.0, hold)
    for t, found in enumerate(frames):
        for matched, i in tracker.update(found):
            if found.keypoints is not None:
                persons.setdefault(matched.id, _Person()).frames[t] = (found.boxes[i], found.keypoints[i])
    joined = _join([persons[i] for i in sorted(persons)])
    lasting = [p for p in joined if len(p.frames) >= min(_MIN_FRAMES, len(frames))]
    out = np.zeros((people, max(1, len(frames)), joints, 3), np.float32)
    for m, person in enumerate(sorted(lasting, key=_Person.rank)[:people]):
        _fill(out[m], {t: keypoints for t, (_, keypoints) in person.frames.items()}, hold)
    return _clean(out)


def follow_one(found: Mapping[int, Floats], length: int, hold: int, joints: int = 17) -> Floats:
    """Keypoints (T, V, 3) of one person who is known, from those (V, 3) of the frames in which they are seen;
    ``length`` is T. Gaps are filled as by ``track``."""
    out = np.zeros((length, joints, 3), np.float32)
    _fill(out, found, hold)
    return _clean(out)


def _clean(out: Floats) -> Floats:
    """Keypoints (..., 3) without anything that is no number; a missing joint has no position."""
    np.nan_to_num(out, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    out[..., 2] = np.clip(out[..., 2], 0, 1)
    out[out[..., 2] == 0] = 0
    return out


def _join(persons: Sequence[_Person]) -> list[_Person]:
    """Join a person who was lost to one who appears nearby later."""
    joined: list[_Person] = []
    for person in sorted(persons, key=lambda p: (p.first, p.last)):
        best, match = 0.0, None
        for earlier in joined:
            if earlier.last < person.first:
                before, after = earlier.frames[earlier.last][0], person.frames[person.first][0]
                close = float(near(before[None], after[None])[0, 0])
                if close > best:
                    best, match = close, earlier
        if match is None:
            joined.append(person)
        else:
            match.frames.update(person.frames)
    return joined


def _fill(out: Floats, found: Mapping[int, Floats], hold: int) -> None:
    """Write one person's keypoints into (T, V, 3), gaps of at most ``hold`` frames interpolated."""
    times = sorted(found)
    for t in times:
        out[t] = found[t]
    for a, b in pairwise(times):
        if not 1 < b - a <= hold + 1:
            continue
        for t in range(a + 1, b):
            weight = np.float32((t - a) / (b - a))
            out[t, :, :2] = (1 - weight) * out[a, :, :2] + weight * out[b, :, :2]
            out[t, :, 2] = _INTERPOLATED * np.minimum(out[a, :, 2], out[b, :, 2])
