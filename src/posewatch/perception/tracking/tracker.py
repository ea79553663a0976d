"""Tracking persons from frame to frame, so that a known person is not lost in a frame with a weak detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from posewatch.perception.tracking.matching import Floats, area, iou, oks, pair
from posewatch.records import Detections

CONTINUES = 0.4
"""Share of the score of a new person that continues a confirmed track: people on the ground score low."""
_RECENT_SCORE = 0.75
"""Share of that score that continues any track of the frame before: scores fluctuate around the threshold."""
_HIT_SCORE = 1.5
_CONFIRMED_HITS = 3
"""Frames with this multiple of the score of a new person that confirm a track. A chair that is detected as a person now
and then does not get there."""
_MIN_SIMILARITY = 0.2
"""Similarity from which two detections in neighbouring frames are the same person."""


@dataclass
class Track:
    """One tracked person: the last ``box`` (4,), its ``velocity`` in pixels per frame, and its detections so far."""

    id: int
    box: Floats
    keypoints: Floats | None
    velocity: Floats = field(default_factory=lambda: np.zeros(2, np.float32))
    hits: int = 0
    missed: int = 0
    detector_id: int | None = None
    """Track id by ByteTrack."""

    @property
    def confirmed(self) -> bool:
        return self.hits >= _CONFIRMED_HITS

    @property
    def expected(self) -> Floats:
        """The box (4,) expected in the next frame."""
        return np.asarray(self.box + np.tile(self.velocity, 2), np.float32)


class Tracker:
    """Assigns the detections of successive frames to tracks.

    ``start`` is the score that a new person needs, ``hold`` the number of frames for which a lost one is remembered.
    """

    def __init__(self, start: float, hold: int) -> None:
        self.start, self.hold = start, hold
        self.continues = start * CONTINUES
        self.tracks: list[Track] = []
        self._next = 0

    def update(self, found: Detections) -> list[tuple[Track, int]]:
        """(track, index into ``found``) of each person of the next frame; weak detections are left out."""
        if found.ids is not None:
            return self._by_id(found, found.ids)
        matched: list[tuple[Track, int]] = []
        usable = [i for i in range(len(found)) if found.scores[i] >= self.continues]
        if usable and self.tracks:
            for row, column in pair(self._similarity(found, usable), _MIN_SIMILARITY):
                track, i = self.tracks[row], usable[column]
                least = self.continues if track.confirmed else self.start * (1 if track.missed else _RECENT_SCORE)
                if found.scores[i] >= least:
                    self._extend(track, found, i)
                    matched.append((track, i))
        taken = {i for _, i in matched}
        self._age(matched)
        new = [i for i in usable if i not in taken and found.scores[i] >= self.start]
        matched += [(self._new(found, i), i) for i in new]
        return sorted(matched, key=lambda m: m[0].id)

    def _by_id(self, found: Detections, ids: NDArray[np.int64]) -> list[tuple[Track, int]]:
        """The same for detections with track ids: the ids decide, whatever the scores."""
        known = {t.detector_id: t for t in self.tracks}
        old = [(known[int(n)], i) for i, n in enumerate(ids) if int(n) in known]
        for track, i in old:
            self._extend(track, found, i)
        self._age(old)
        new = [(self._new(found, i, int(n)), i) for i, n in enumerate(ids) if int(n) not in known]
        return sorted(old + new, key=lambda m: m[0].id)

    def _age(self, matched: Sequence[tuple[Track, int]]) -> None:
        """Extrapolate the tracks without a detection, and drop those lost for too long."""
        ids = {t.id for t, _ in matched}
        for track in self.tracks:
            if track.id not in ids:
                track.missed += 1
                track.velocity = track.velocity * np.float32(0.7)
                track.box = track.expected
        self.tracks = [t for t in self.tracks if t.missed <= (self.hold if t.confirmed else 0)]

    def _new(self, found: Detections, i: int, detector_id: int | None = None) -> Track:
        track = Track(self._next, found.boxes[i], None, detector_id=detector_id)
        self._extend(track, found, i)
        self._next += 1
        self.tracks.append(track)
        return track

    def lost(self) -> list[Track]:
        """Tracks that are remembered but have no detection in the last frame."""
        return [t for t in self.tracks if t.missed]

    def _extend(self, track: Track, found: Detections, i: int) -> None:
        step = (found.boxes[i].reshape(2, 2).mean(0) - track.box.reshape(2, 2).mean(0)).astype(np.float32)
        if not track.missed:
            track.velocity = np.float32(0.5) * track.velocity + np.float32(0.5) * step
        track.box = found.boxes[i]
        track.keypoints = None if found.keypoints is None else found.keypoints[i]
        track.hits += int(found.scores[i] >= _HIT_SCORE * self.start)
        track.missed = 0

    def _similarity(self, found: Detections, usable: Sequence[int]) -> Floats:
        """(tracks, usable detections): mean of IoU and nearness, plus half the OKS where both have keypoints."""
        boxes = found.boxes[list(usable)]
        expected = np.stack([t.expected for t in self.tracks])
        similarity = iou(expected, boxes) + near(expected, boxes)
        known = [t.keypoints for t in self.tracks]
        if found.keypoints is not None and all(k is not None for k in known):
            areas = np.maximum(area(expected)[:, None], area(boxes)[None])
            before: Floats = np.stack([k for k in known if k is not None])
            similarity = similarity + oks(before, found.keypoints[list(usable)], areas, slack=2.0)
        return np.asarray(similarity / 2, np.float32)


def near(a: Floats, b: Floats) -> NDArray[np.float32]:
    """Nearness (P, Q) of the centres of boxes (P, 4) and (Q, 4): 1 at a distance of 0,
    0 from 0.75 of their mean diagonal."""
    centre_a, centre_b = (boxes.reshape(-1, 2, 2).mean(1) for boxes in (a, b))
    size_a, size_b = (np.hypot(*(boxes[:, 2:] - boxes[:, :2]).T) for boxes in (a, b))
    distance = np.hypot(*(centre_a[:, None] - centre_b[None]).transpose(2, 0, 1))
    reach = 0.75 * (size_a[:, None] + size_b[None]) / 2
    return np.clip(1 - distance / np.maximum(reach, 1e-6), 0, 1).astype(np.float32)
