"""When the pose network looks: not at frames in which nothing has moved, nor at more of them than is asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from posewatch.records import Detections
from posewatch.watch.config import WatchConfig
from posewatch.watch.motion import Motion
from posewatch.watch.sources import Frame
from posewatch.watch.stats import WatchStats
from posewatch.watch.tracked_people import Observation, TrackedPeople

Seen = tuple[Frame, Observation]


class Looks:
    """Gives every frame with the people in it, in order, and has the network look at some of them only.

    With ``config.still_s`` a frame in which nothing has moved since the last look shows the same people, for so many
    seconds. It is looked at all the same while somebody was found just now or is lost. With ``config.pose_every`` N the
    network looks at every Nth frame; those between are given with the next look, as its people are between the two.
    With ``config.large_s`` it may glance for so many seconds: look at less where everybody is large. ``stats`` counts
    the looks.
    """

    def __init__(self, people: TrackedPeople, config: WatchConfig, stats: WatchStats) -> None:
        self._people, self._stats, self._every = people, stats, config.pose_every
        self._still = round(config.still_s * config.fps)
        self._motion = Motion(config.fps) if self._still > 1 else None
        self._large = round(config.large_s * config.fps)
        self._last: tuple[int, Observation] | None = None
        self._whole = 0
        """The frame at which the network looked last without glancing."""
        self._waiting: list[Frame] = []

    def begin(self, index: int) -> None:
        """A gap of the source ends with frame ``index``; ``rest`` comes first."""
        self._people.begin(index)
        self._last = None
        if self._motion is not None:
            self._motion.forget()

    def take(self, frame: Frame) -> Iterator[Seen]:
        """The next frame: those that can be given now."""
        if self._last is None:
            yield from self._look(frame)
            return
        index, people = self._last
        if self._unmoved(frame, people, frame.index - index):
            yield from self.rest()
            yield frame, self._people.repeat(frame.index, frame.image, people)
        elif frame.index - index < self._every:
            self._waiting.append(frame)
        else:
            yield from self._look(frame)

    def rest(self) -> Iterator[Seen]:
        """The frames that wait for the next look, when there is none: people are where they were seen last."""
        waiting, self._waiting = self._waiting, []
        for frame in waiting:
            people = self._last[1] if self._last else Observation.nobody()
            yield frame, self._people.repeat(frame.index, frame.image, people)

    def _unmoved(self, frame: Frame, people: Observation, since: int) -> bool:
        if self._motion is None:
            return False
        # compared in any case: it learns what is usual
        moved = self._motion.changed(frame.image, people.detections.boxes)
        return not moved and since < self._still and self._people.settled

    def _look(self, frame: Frame) -> Iterator[Seen]:
        if self._motion is not None:
            if self._last is None:
                self._motion.changed(frame.image, np.zeros((0, 4), np.float32))
            self._motion.remember()
        before = self._last
        glance = frame.index - self._whole < self._large and self._people.settled
        just_seen = before[1].detections if before is not None and glance else None
        people = self._people.update(frame.index, frame.image, just_seen)
        if just_seen is None:
            self._whole = frame.index
        self._stats.looked += 1
        self._last = (frame.index, people)
        waiting, self._waiting = self._waiting, []
        for other in waiting:
            assert before is not None
            share = (other.index - before[0]) / (frame.index - before[0])
            yield other, self._people.repeat(other.index, other.image, between(before[1], people, share))
        yield frame, people


def between(a: Observation, b: Observation, share: float) -> Observation:
    """The people of two observations who are in both, at ``share`` of the way from the first to the second."""
    pairs = [(i, b.ids.index(track)) for i, track in enumerate(a.ids) if track in b.ids]
    first, second = a.detections.pick([i for i, _ in pairs]), b.detections.pick([j for _, j in pairs])
    weight = np.float32(share)
    boxes = (1 - weight) * first.boxes + weight * second.boxes
    scores = (1 - weight) * first.scores + weight * second.scores
    keypoints = None
    if first.keypoints is not None and second.keypoints is not None:
        keypoints = (1 - weight) * first.keypoints + weight * second.keypoints
        keypoints[(first.keypoints[..., 2] == 0) | (second.keypoints[..., 2] == 0)] = 0
    ids = tuple(b.ids[j] for _, j in pairs)
    return Observation(Detections(boxes, scores, keypoints), ids, tuple(b.persons[j] for _, j in pairs))
