"""Simulated cameras for ``bench.loop``: each group of people of a labelled file is one, with a view of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.clipset import ClipSet
from posewatch.errors import InputError
from posewatch.recognition.sampling import sample

ABNORMAL = 0.1
"""Share of the windows that show what should raise an alarm."""
WINDOWS = 600
"""Later windows that are measured, of the judged and of other cameras each; half of them are abnormal."""

Keypoints = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """How a camera sees people: factors of x and y, a rotation in radians, noise in pixels, the share of windows in
    which legs are hidden, and in which only one person is found."""

    x: float
    y: float
    angle: float
    noise: float
    hidden: float
    missed: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> View:
        side = float(rng.choice([-1.0, 1.0])) * rng.uniform(0.55, 1.0)
        return cls(
            side, rng.uniform(0.6, 1.0), rng.uniform(-0.2, 0.2), rng.uniform(1, 6), rng.uniform(0, 0.6),
            rng.uniform(0, 0.25),
        )  # fmt: skip

    def window(self, clip: Keypoints, frames: int, rng: np.random.Generator) -> Keypoints:
        """A window (M, T, V, 3) of a clip (M, T', V, 3), a part of it, as this camera shows it."""
        whole = clip.shape[1]
        part = rng.uniform(0.75, 1.0) * (whole - 1)
        first = rng.uniform(0, whole - 1 - part)
        out = sample(clip, np.linspace(first, first + part, frames), clip.shape[0]).copy()
        seen = out[..., 2] > 0
        middle = out[..., :2][seen].mean(0) if seen.any() else np.zeros(2, np.float32)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([self.x, self.y])
        out[..., :2] = (out[..., :2] - middle) @ turn.T + middle + rng.normal(0, self.noise, out[..., :2].shape)
        if rng.random() < self.hidden and out.shape[2] == 17:
            out[:, :, 13:] = 0
        if rng.random() < self.missed and out.shape[0] > 1:
            out[rng.integers(out.shape[0])] = 0
        out[~seen | (out[..., 2] == 0)] = 0
        return np.asarray(np.maximum(out, 0), np.float32)


@dataclass(frozen=True)
class Stream:
    """Windows as they come: keypoints, whether each is abnormal, its camera, and its place among the camera's."""

    keypoints: tuple[Keypoints, ...]
    abnormal: NDArray[np.bool_]
    cameras: tuple[str, ...]
    places: tuple[int, ...]

    def clips(self, like: ClipSet, chosen: slice = slice(None)) -> ClipSet:
        """The windows as a set to score."""
        keypoints = self.keypoints[chosen]
        names = tuple(map(str, range(len(keypoints))))
        return replace(
            like, keypoints=keypoints, labels=self.abnormal[chosen].astype(np.int64), ids=names, groups=names, takes=(),
            sources=(), notes=(),
        )  # fmt: skip


@dataclass(frozen=True)
class World:
    """One draw of cameras: the labelled clips to begin with, what comes in, and what is measured afterwards."""

    start: Stream
    past: Stream
    later: Stream
    others: Stream


def world(
    clips: ClipSet, positive: int, start: int, frames: int, seed: int, windows: int = WINDOWS
) -> World:  # fmt: skip
    """Deal the file's groups: two fifths are cameras of the first labels, of which ``start`` clips are taken, two are
    cameras that nobody judges, the rest are the cameras whose alarms are judged. Raises InputError for too few."""
    rng = np.random.default_rng(seed)
    both = [g for g in sorted(set(clips.groups)) if _classes(clips, g) == len(clips.classes)]
    if len(both) < 6:
        raise InputError(f"the simulation needs 6 groups of people with clips of both kinds, the file has {len(both)}")
    names = [str(name) for name in rng.permutation(both)]
    first = max(2, round(0.4 * len(names)))
    views = {name: View.draw(rng) for name in names}
    halves: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    for name in names:
        halves[name] = _halves(clips, name, rng)
    known, unjudged, judged = names[:first], names[first : first + 2], names[first + 2 :]
    groups = {name: np.concatenate(halves[name]) for name in names}
    per_camera = max(windows // 3, 2 * windows // max(1, len(judged)))
    return World(
        _labelled(clips, positive, {n: groups[n] for n in known}, views, start, frames, rng),
        _stream(clips, positive, {n: halves[n][0] for n in judged}, views, per_camera, ABNORMAL, frames, rng),
        _stream(clips, positive, {n: halves[n][1] for n in judged}, views, windows // len(judged), 0.5, frames, rng),
        _stream(clips, positive, {n: groups[n] for n in unjudged}, views, windows // 2, 0.5, frames, rng),
    )


def _classes(clips: ClipSet, group: str) -> int:
    """Classes of which a group has at least two clips, one for each half."""
    labels = clips.labels[[i for i, name in enumerate(clips.groups) if name == group]]
    return int((np.bincount(labels, minlength=len(clips.classes)) >= 2).sum())


def _halves(clips: ClipSet, group: str, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The clips of a group in two halves, each with every class."""
    mine = np.array([i for i, name in enumerate(clips.groups) if name == group])
    halves: tuple[list[int], list[int]] = ([], [])
    for label in range(len(clips.classes)):
        order = rng.permutation(mine[clips.labels[mine] == label])
        halves[0].extend(order[: len(order) // 2])
        halves[1].extend(order[len(order) // 2 :])
    return np.array(halves[0]), np.array(halves[1])


def _labelled(
    clips: ClipSet, positive: int, cameras: dict[str, NDArray[np.int64]], views: dict[str, View], count: int,
    frames: int, rng: np.random.Generator,
) -> Stream:  # fmt: skip
    """``count`` different clips, half of each class as far as there are, of all cameras in turn."""
    chosen: list[tuple[str, int]] = []
    for abnormal in (False, True):
        pool = [(n, int(i)) for n, own in cameras.items() for i in own if (clips.labels[i] == positive) == abnormal]
        chosen += [pool[k] for k in rng.permutation(len(pool))[: count // 2]]
    keypoints = tuple(views[name].window(clips.keypoints[i], frames, rng) for name, i in chosen)
    abnormal_ = np.array([clips.labels[i] == positive for _, i in chosen])
    return Stream(keypoints, abnormal_, tuple(name for name, _ in chosen), tuple(range(len(chosen))))


def _stream(
    clips: ClipSet, positive: int, cameras: dict[str, NDArray[np.int64]], views: dict[str, View], each: int,
    share: float, frames: int, rng: np.random.Generator,
) -> Stream:  # fmt: skip
    """``each`` windows of every camera in turn, a ``share`` of them abnormal, drawn from the camera's clips."""
    keypoints, abnormal, names, places = [], [], [], []
    for place in range(each):
        for name, own in cameras.items():
            kind = bool(rng.random() < share)
            i = int(rng.choice(own[(clips.labels[own] == positive) == kind]))
            keypoints.append(views[name].window(clips.keypoints[i], frames, rng))
            abnormal.append(kind)
            names.append(name)
            places.append(place)
    return Stream(tuple(keypoints), np.array(abnormal), tuple(names), tuple(places))
