"""Who is who among the detections of a pose estimator, by the boxes that masking recorded of each tracked person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch.config import PoseConfig
from posewatch.perception.persons import MIN_FRAMES, SIDE, Person
from posewatch.perception.tracking.identities import follow_one
from posewatch.perception.tracking.matching import iou, pair
from posewatch.perception.tracking.tracker import CONTINUES, Tracker, near
from posewatch.records import Detections, Skeleton

_LEAST = 0.2
"""Likeness of a box to the recorded one from which a detection may be that person."""
_NOBODY = Detections.none(17)


def in_own_video(person: Person, frames: Sequence[Detections], config: PoseConfig) -> list[Detections]:
    """The person, or nobody, in each frame of the person's masked video, from what an estimator found in it.

    In pixels of the scene.
    """
    found = []
    for i, (box, seen) in enumerate(zip(person.boxes, frames, strict=False)):
        seen = _in_scene(seen, person.views[i]) if person.views else seen
        usable = np.flatnonzero(seen.scores >= config.min_score * CONTINUES)
        if box is None or not len(usable):
            found.append(_NOBODY)
            continue
        alike = _alike(np.array([box], np.float32), seen.boxes[usable])[0]
        best = int(alike.argmax())
        found.append(seen.pick([int(usable[best])]) if alike[best] >= _LEAST else _NOBODY)
    return found


def in_scene(
    persons: Sequence[Person], frames: Sequence[Detections], config: PoseConfig
) -> dict[int, list[Detections]]:
    """The person's number → the person, or nobody, in each frame, from what an estimator found in all the scene."""
    found = {person.person: [_NOBODY] * person.frames for person in persons}
    for t, seen in enumerate(frames):
        there = [p for p in persons if p.first <= t < p.end and p.boxes[t - p.first] is not None]
        usable = np.flatnonzero(seen.scores >= config.min_score * CONTINUES)
        if there and len(usable):
            boxes = np.array([p.boxes[t - p.first] for p in there], np.float32)
            for row, column in pair(_alike(boxes, seen.boxes[usable]), _LEAST):
                found[there[row].person][t - there[row].first] = seen.pick([int(usable[column])])
    return found


def by_number(persons: Sequence[Person], frames: Sequence[Detections]) -> dict[int, list[Detections]]:
    """The same from the detections of masking, whose ids are the persons' numbers."""
    found = {person.person: [_NOBODY] * person.frames for person in persons}
    first = {person.person: person.first for person in persons}
    for t, seen in enumerate(frames):
        for i, number in enumerate([] if seen.ids is None else seen.ids.tolist()):
            if number in found and 0 <= t - first[number] < len(found[number]):
                found[number][t - first[number]] = seen.pick([i])
    return found


def in_view(person: Person, frames: Sequence[Detections]) -> list[Detections]:
    """What masking detected of a person, in pixels of the person's video, in each of its frames."""
    found = by_number([person], frames)[person.person]
    if not person.views:
        return found
    moved = []
    for seen, (x, y, span) in zip(found, person.views, strict=True):
        corner, scale = np.tile(np.array([x - span / 2, y - span / 2], np.float32), 2), np.float32(SIDE / span)
        moved.append(Detections((seen.boxes - corner) * scale, seen.scores))
    return moved


def apart(frames: Sequence[Detections], config: PoseConfig) -> list[dict[int, NDArray[np.float32]]]:
    """The persons of a video in the order in which they appear, each as frame → joints (V, 3)."""
    tracker, found = Tracker(0.0, config.hold), dict[int, dict[int, NDArray[np.float32]]]()
    for t, seen in enumerate(frames):
        for track, i in tracker.update(seen) if seen.keypoints is not None else ():
            assert seen.keypoints is not None
            found.setdefault(track.id, {})[t] = seen.keypoints[i]
    return [found[track_id] for track_id in sorted(found) if len(found[track_id]) >= MIN_FRAMES]


def in_windows(
    own: Mapping[int, NDArray[np.float32]], windows: Iterable[tuple[int, int]], least: int, hold: int
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """(first frame, frames, keypoints (1, T, V, 3)) of the ``windows`` (first frame, frames) in which a person of
    `apart` is seen in ``least`` frames."""
    for first, count in windows:
        inside = {t - first: joints for t, joints in own.items() if first <= t < first + count}
        if len(inside) >= min(least, count):
            yield first, count, follow_one(inside, count, hold)[None]


def skeleton(
    person: Person, found: Sequence[Detections], first: int, frames: int, config: PoseConfig, size: tuple[int, int],
    fps: float,
) -> Skeleton:  # fmt: skip
    """The skeleton (1, T, V, 3) of a person in ``frames`` frames of the masked video from ``first`` on.

    In pixels of the scene, of ``size`` (width, height).
    """
    places = range(first - person.first, first - person.first + frames)
    seen = {t: found[i].keypoints for t, i in enumerate(places) if 0 <= i < len(found) and len(found[i])}
    own = {t: keypoints[0] for t, keypoints in seen.items() if keypoints is not None}
    return Skeleton(follow_one(own, frames, config.hold)[None], fps, *size)


def in_crop(clip: Skeleton, person: Person, first: int) -> Skeleton:
    """A skeleton of the scene in pixels of the person's cropped video; ``first`` is the clip's first frame."""
    keypoints = clip.keypoints.copy()
    for t in range(keypoints.shape[1]):
        i = min(max(first + t - person.first, 0), len(person.views) - 1)
        x, y, span = person.views[i]
        seen = keypoints[:, t, :, 2] > 0
        moved = (keypoints[:, t, :, :2] - (x, y)) * (SIDE / span) + SIDE / 2
        keypoints[:, t, :, :2] = np.where(seen[..., None], moved, 0)
    return Skeleton(keypoints, clip.fps, SIDE, SIDE, clip.layout)


def _in_scene(found: Detections, view: tuple[float, float, float]) -> Detections:
    """Detections in a crop, in pixels of the scene."""
    x, y, span = view
    scale, corner = np.float32(span / SIDE), np.array([x - span / 2, y - span / 2], np.float32)
    keypoints = found.keypoints
    if keypoints is not None:
        keypoints = np.concatenate([keypoints[..., :2] * scale + corner, keypoints[..., 2:]], -1)
    return Detections(found.boxes * scale + np.tile(corner, 2), found.scores, keypoints)


def _alike(recorded: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Likeness (P, Q) of boxes: the mean of IoU and nearness."""
    return np.asarray((iou(recorded, found) + near(recorded, found)) / 2, np.float32)
