"""Who is who for as long as an alarm may last: numbers of persons, who are found again after they were lost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from posewatch.perception.tracking.matching import Floats, pair
from posewatch.perception.tracking.tracker import Track, near

_AHEAD = 10
"""Frames for which a lost person is taken to walk on."""
_CLOSE = 1e-3
"""Nearness from which somebody new may be somebody lost."""


@dataclass
class _Last:
    """Where a person was seen last: the track id, the frame, box (4,) and velocity (2,) in pixels a frame."""

    track: int
    index: int
    box: Floats
    velocity: Floats
    confirmed: bool = False
    lost: bool = False


class Persons:
    """Numbers the persons of one source, from 1 on.

    The tracker forgets somebody after a few frames. A new track that begins where somebody was lost at most ``hold``
    frames ago, or where they were walking to, is that person.
    """

    def __init__(self, hold: int) -> None:
        self._hold, self._next = hold, 1
        self.longer: dict[int, int] = {}
        """Persons who are remembered for another number of frames."""
        self._last: dict[int, _Last] = {}
        self._by_track: dict[int, int] = {}

    def update(self, index: int, tracks: Sequence[Track]) -> tuple[int, ...]:
        """The numbers of the persons of the tracks that are seen in frame ``index``."""
        self._forget(index)
        for last in self._last.values():
            last.lost = True
        seen: dict[int, Track] = {}
        for track in tracks:
            number = self._by_track.get(track.id)
            # somebody lost may come back beside whoever was taken for them: the latter keeps the number
            if number is not None and (number not in seen or self._last[number].track == track.id):
                seen[number] = track
        known = {track.id for track in seen.values()}
        if new := [track for track in tracks if track.id not in known]:
            self._recognise(index, new, seen)
        for track in tracks:
            number = self._by_track[track.id]
            confirmed = track.confirmed or (number in self._last and self._last[number].confirmed)
            self._last[number] = _Last(track.id, index, track.box, track.velocity, confirmed)
        return tuple(self._by_track[track.id] for track in tracks)

    @property
    def anybody_lost(self) -> bool:
        """Whether somebody who was surely there is remembered, and not seen now."""
        return any(last.lost and last.confirmed for last in self._last.values())

    def stay(self, index: int, persons: Collection[int]) -> None:
        """These persons were in frame ``index``, too, where they were seen last."""
        for number in persons:
            if number in self._last:
                self._last[number].index = max(index, self._last[number].index)

    def clear(self) -> None:
        """After a gap nobody is known; numbers are not given twice."""
        self._last, self._by_track = {}, {}

    def _forget(self, index: int) -> None:
        hold = self._hold
        gone = [n for n, last in self._last.items() if index - last.index > max(hold, self.longer.get(n, 0))]
        for number in gone:
            del self._last[number]
        if gone:
            self._by_track = {track: number for track, number in self._by_track.items() if number in self._last}

    def _recognise(self, index: int, new: Sequence[Track], seen: Collection[int]) -> None:
        for track in new:
            self._by_track.pop(track.id, None)
        lost = [number for number in self._last if number not in seen]
        if lost:
            boxes = np.stack([track.box for track in new])
            there = np.stack([self._last[number].box for number in lost])
            steps = [min(index - self._last[number].index, _AHEAD) for number in lost]
            ahead = np.stack(
                [
                    last.box + np.tile(last.velocity, 2) * np.float32(n)
                    for n, last in zip(steps, (self._last[number] for number in lost), strict=True)
                ]
            )
            close = np.maximum(near(there, boxes), near(np.asarray(ahead, np.float32), boxes))
            for row, column in pair(close, _CLOSE):
                self._by_track[new[column].id] = lost[row]
        for track in new:
            if track.id not in self._by_track:
                self._by_track[track.id] = self._next
                self._next += 1

    def number_of(self, track: int) -> int | None:
        """The number of the person of a track; None: it is forgotten."""
        return self._by_track.get(track)
