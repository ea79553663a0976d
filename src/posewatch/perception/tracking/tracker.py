"""Following persons from frame to frame, so that a weak frame does not lose somebody who was surely there before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from posewatch.perception.tracking.matching import Floats, area, iou, oks, pair
from posewatch.records import Detections

_KEEP = 0.4
"""Somebody who is being followed may score this share of what a newcomer needs: people on the ground score low."""
_WAVER = 0.75
"""Somebody seen in the frame before may score this share: scores tremble around the threshold."""
_SURE = 1.5
_CERTAIN = 3
"""Frames with this multiple of a newcomer's score after which a track may go on with low scores and be held; a chair
that is now and then taken for a person does not get there."""
_LEAST = 0.2
"""Similarity from which two detections in neighbouring frames are the same person."""


@dataclass
class Track:
    """One followed person: last ``box`` (4,), its ``velocity`` in pixels per frame, and how it has been seen."""

    id: int
    box: Floats
    keypoints: Floats | None
    velocity: Floats = field(default_factory=lambda: np.zeros(2, np.float32))
    hits: int = 0
    missed: int = 0
    source: int | None = None
    """The person's number with a detector that follows persons itself."""

    @property
    def certain(self) -> bool:
        return self.hits >= _CERTAIN

    @property
    def expected(self) -> Floats:
        """The box (4,) where the person should be one frame on."""
        out: Floats = self.box + np.tile(self.velocity, 2)
        return out


class Tracker:
    """Gives detections of successive frames the number of their person.

    ``start`` is the score that a new person needs, ``hold`` the frames for which a lost one is remembered.
    """

    def __init__(self, start: float, hold: int, keep: float | None = None) -> None:
        self.start, self.hold = start, hold
        self.keep = start * _KEEP if keep is None else keep
        self.tracks: list[Track] = []
        self._next = 0

    def update(self, found: Detections) -> list[tuple[Track, int]]:
        """(track, index into ``found``) of each person of the next frame; detections that are too weak are left out."""
        if found.ids is not None:
            return self._by_number(found, found.ids)
        matched: list[tuple[Track, int]] = []
        usable = [i for i in range(len(found)) if found.scores[i] >= self.keep]
        if usable and self.tracks:
            likeness = self._similarity(found, usable)
            for row, column in pair(likeness, _LEAST):
                track, i = self.tracks[row], usable[column]
                least = self.keep if track.certain else self.start * (1 if track.missed else _WAVER)
                if found.scores[i] >= least:
                    self._follow(track, found, i)
                    matched.append((track, i))
        taken = {i for _, i in matched}
        self._age(matched)
        new = [i for i in usable if i not in taken and found.scores[i] >= self.start]
        matched += [(self._new(found, i), i) for i in new]
        return sorted(matched, key=lambda m: m[0].id)

    def _by_number(self, found: Detections, ids: NDArray[np.int64]) -> list[tuple[Track, int]]:
        """The same for a detector that has followed the persons: its numbers decide, whatever the scores."""
        known = {t.source: t for t in self.tracks}
        old = [(known[int(n)], i) for i, n in enumerate(ids) if int(n) in known]
        for track, i in old:
            self._follow(track, found, i)
        self._age(old)
        new = [(self._new(found, i, int(n)), i) for i, n in enumerate(ids) if int(n) not in known]
        return sorted(old + new, key=lambda m: m[0].id)

    def _age(self, matched: Sequence[tuple[Track, int]]) -> None:
        """Move those who were not found on, and forget those who have been lost for too long."""
        ids = {t.id for t, _ in matched}
        for track in self.tracks:
            if track.id not in ids:
                track.missed += 1
                track.velocity = track.velocity * np.float32(0.7)
                track.box = track.expected
        limit = {t.id: self.hold if t.certain else 0 for t in self.tracks}
        self.tracks = [t for t in self.tracks if t.missed <= limit[t.id]]

    def _new(self, found: Detections, i: int, source: int | None = None) -> Track:
        keypoints = None if found.keypoints is None else found.keypoints[i]
        sure = int(found.scores[i] >= _SURE * self.start)
        track = Track(self._next, found.boxes[i], keypoints, hits=sure, source=source)
        self._next += 1
        self.tracks.append(track)
        return track

    def lost(self) -> list[Track]:
        """Persons who are remembered but were not found in the last frame."""
        return [t for t in self.tracks if t.missed]

    def _follow(self, track: Track, found: Detections, i: int) -> None:
        step = (found.boxes[i].reshape(2, 2).mean(0) - track.box.reshape(2, 2).mean(0)).astype(np.float32)
        if not track.missed:
            track.velocity = np.float32(0.5) * track.velocity + np.float32(0.5) * step
        track.box = found.boxes[i]
        track.keypoints = None if found.keypoints is None else found.keypoints[i]
        track.hits += int(found.scores[i] >= _SURE * self.start)
        track.missed = 0

    def _similarity(self, found: Detections, usable: Sequence[int]) -> Floats:
        """(tracks, usable detections), above 1 when overlap, joints and place all agree."""
        boxes = found.boxes[list(usable)]
        expected = np.stack([t.expected for t in self.tracks])
        likeness = iou(expected, boxes) + near(expected, boxes)
        known = [t.keypoints for t in self.tracks]
        if found.keypoints is not None and all(k is not None for k in known):
            areas = np.maximum(area(expected)[:, None], area(boxes)[None])
            before: Floats = np.stack([k for k in known if k is not None])
            likeness = likeness + oks(before, found.keypoints[list(usable)], areas, slack=2.0)
        return np.asarray(likeness / 2, np.float32)


def near(a: Floats, b: Floats) -> NDArray[np.float32]:
    """How close the centres of boxes (P, 4) and (Q, 4) lie: 1 on the spot, 0 from 0.75 of their mean diagonal on."""
    centre_a, centre_b = (boxes.reshape(-1, 2, 2).mean(1) for boxes in (a, b))
    size_a, size_b = (np.hypot(*(boxes[:, 2:] - boxes[:, :2]).T) for boxes in (a, b))
    distance = np.hypot(*(centre_a[:, None] - centre_b[None]).transpose(2, 0, 1))
    reach = 0.75 * (size_a[:, None] + size_b[None]) / 2
    return np.clip(1 - distance / np.maximum(reach, 1e-6), 0, 1).astype(np.float32)
