"""The persons of the last seconds, and the clips that a model is asked about."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posewatch.config import PoseConfig
from posewatch.perception.ports import Image, PoseEstimator
from posewatch.perception.tracking.identities import track
from posewatch.perception.tracking.tracker import Tracker
from posewatch.records import Detections

MOST = 12
"""Persons of one window that are looked at."""
PRESENT = 1 / 3
"""Share of a window in which somebody beyond the model's number of persons must be seen to be asked about, too."""


@dataclass(frozen=True)
class Seen:
    """The persons of one frame: ``found`` with keypoints, and the number of each, ``ids``."""

    found: Detections
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Clips:
    """What the model is asked about at one moment: ``keypoints`` float32 (G, M, T, V, 3), one group of at most M
    persons each, and the numbers ``ids`` of the persons of each group. G is 0 when nobody is there."""

    keypoints: NDArray[np.float32]
    ids: tuple[tuple[int, ...], ...]


class Scene:
    """Sees frame after frame of one camera; remembers ``span`` of them.

    ``people`` is M, how many persons the model takes at once. The most present M persons are one group, as in
    training; everybody beyond them is a group with the person next to them, so that a crowd hides nobody.
    """

    def __init__(self, estimator: PoseEstimator, config: PoseConfig, span: int, people: int) -> None:
        self._estimator, self._config, self._span, self._people = estimator, config, span, people
        self._tracker = Tracker(config.min_score, config.hold)
        self._frames: deque[tuple[int, Seen]] = deque(maxlen=span)

    def see(self, index: int, image: Image) -> Seen:
        """The persons of the frame ``index``."""
        found = self._estimator.estimate([image])[0]
        matched = self._tracker.update(found)
        seen = Seen(found.pick([i for _, i in matched]), tuple(t.id for t, _ in matched))
        self._frames.append((index, seen))
        return seen

    def clips(self, end: int) -> Clips:
        """The window of ``span`` frames that ends with frame ``end``, or of all since frame 0 where these are fewer;
        frames that are missing show nobody."""
        known = {index: seen for index, seen in self._frames if end - self._span < index <= end}
        nobody = Seen(Detections.none(17), ())
        frames = [known.get(i, nobody) for i in range(max(0, end - self._span + 1), end + 1)]
        # numbered anew within the window, exactly as a clip of the training set is
        plain = [Detections(s.found.boxes, s.found.scores, s.found.keypoints) for s in frames]
        joints = next((s.found.keypoints.shape[1] for s in frames if s.found.keypoints is not None and s.ids), 17)
        everybody = track(plain, MOST, self._config.hold, joints)
        present = np.asarray((everybody[..., 2] > 0).any(axis=2))
        count = int(present.any(1).sum())
        if not count:
            return Clips(np.zeros((0, self._people, len(frames), joints, 3), np.float32), ())
        groups = [tuple(range(min(self._people, count)))]
        beyond = [m for m in range(self._people, count) if present[m].mean() >= PRESENT]
        groups += [tuple(sorted([m, *_nearest(everybody[:count], m, self._people - 1)])) for m in beyond]
        groups = list(dict.fromkeys(groups))
        keypoints = np.zeros((len(groups), self._people, *everybody.shape[1:]), np.float32)
        for g, group in enumerate(groups):
            keypoints[g, : len(group)] = everybody[list(group)]
        numbers = [_number(person, frames) for person in everybody[:count]]
        return Clips(keypoints, tuple(tuple(n for n in (numbers[m] for m in g) if n is not None) for g in groups))


def _nearest(everybody: NDArray[np.float32], me: int, count: int) -> list[int]:
    """The ``count`` persons of (P, T, V, 3) who are, on average, closest to person ``me`` while both are seen."""
    if count < 1:
        return []
    seen = everybody[..., 2] > 0
    weight = seen[..., None].astype(np.float32)
    centres = (everybody[..., :2] * weight).sum(2) / np.maximum(weight.sum(2), 1)
    both = seen.any(2) & seen[me].any(1)
    away = np.linalg.norm(centres - centres[me], axis=-1)
    mean = np.where(both.any(1), (away * both).sum(1) / np.maximum(both.sum(1), 1), np.inf)
    mean[me] = np.inf
    return [int(i) for i in np.argsort(mean, kind="stable")[:count] if np.isfinite(mean[i])]


def _number(person: NDArray[np.float32], frames: Sequence[Seen]) -> int | None:
    """The number under which somebody of the window (T, V, 3) was last followed."""
    for t in range(len(frames) - 1, -1, -1):
        seen = frames[t]
        if seen.found.keypoints is None or not (person[t, :, 2] > 0).any():
            continue
        for i, number in enumerate(seen.ids):
            theirs = seen.found.keypoints[i]
            visible = (person[t, :, 2] > 0) & (theirs[:, 2] > 0)
            if visible.any() and np.allclose(theirs[visible, :2], person[t, visible, :2], atol=1e-3):
                return number
    return None
