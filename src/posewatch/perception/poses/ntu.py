"""NTU RGB+D's ``.skeleton`` files: one text file per clip, what Kinect v2 saw."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.errors import InputError
from posewatch.perception.poses.clip import LONGEST, Floats, PoseClip, shown

SIZE = (1080, 1920)
"""(height, width) of its colour pictures, which colorX and colorY are pixels of."""
_ACTION = re.compile(r"A(\d{3})(?!\d)")
_SURE = (0.0, 0.5, 1.0)
"""Scores of joints that are not tracked, inferred and tracked."""
_SHORT, _FLAT, _MOSTLY = 11, 0.8, 0.69754
"""Of several bodies, one that is seen in at most so many frames, or that is wider than this share of its height in more
than that share of its frames, is no person: a chair, say. The limits of the set's authors, as PYSKL has them, too."""


@dataclass
class _Body:
    """A body by frame: ``picture`` (V, 3) x, y and score, ``space`` (V, 3) in metres."""

    picture: dict[int, Floats] = field(default_factory=dict)
    space: list[Floats] = field(default_factory=list)

    @property
    def motion(self) -> float:
        return float(np.concatenate(self.space).var(0).sum())

    @property
    def flat(self) -> float:
        """Share of the frames in which it is too wide for a person."""
        wide, high = (np.array([np.ptp(k[:, axis]) for k in self.space]) for axis in (0, 1))
        return float(np.mean(wide > _FLAT * high))


def claims(text: Any) -> bool:
    """Text that begins with the number of frames and the number of bodies in the first, each in a line of its own."""
    lines = str(text).split("\n", 2)
    return len(lines) > 1 and all(line.strip().isdigit() for line in lines[:2])


def read(files: Iterable[tuple[Path, Any]]) -> Iterator[PoseClip]:
    """A clip of each file; its class is the action in its name."""
    for path, text in files:
        frames, bodies = _bodies(str(text).split("\n"), path)
        action = _ACTION.search(path.stem)
        name = f"A{action[1]}" if action else ""
        yield PoseClip(
            path.stem, _tracks(frames, bodies), shown(path), "ntu25", SIZE,
            label=name, number=int(action[1]) - 1 if action else 0,
        )  # fmt: skip


def _bodies(lines: list[str], path: Path) -> tuple[int, list[_Body]]:
    """The number of frames, and the bodies in the order in which they appear."""
    bodies: dict[str, _Body] = {}
    rows = iter(lines)
    line = 0

    def numbers() -> list[str]:
        nonlocal line
        line += 1
        return next(rows).split()

    try:
        frames = int(numbers()[0])
        if frames > LONGEST:
            raise ValueError
        for t in range(frames):
            for _ in range(int(numbers()[0])):
                body = bodies.setdefault(numbers()[0], _Body())
                joints = np.array([[_number(v) for v in numbers()] for _ in range(int(numbers()[0]))], np.float32)
                if joints.shape != (25, 12):
                    raise ValueError
                body.picture[t], space = _joints(joints)
                body.space.append(space)
    except (StopIteration, ValueError, IndexError):
        raise InputError(f"{shown(path)}: line {line} is not what NTU RGB+D has there (copy the file again)") from None
    return frames, list(bodies.values())


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")  # -1.#IND, as Windows writes it


def _joints(rows: Floats) -> tuple[Floats, Floats]:
    """Rows x, y, z, depthX, depthY, colorX, colorY, orientation (4), tracking state → (V, 3) in the picture and in
    space."""
    state = np.clip(np.nan_to_num(rows[:, 11]), 0, 2).astype(int)
    out = np.concatenate([rows[:, 5:7], np.array(_SURE, np.float32)[state][:, None]], 1)
    out[~np.isfinite(out).all(1) | (out[:, 2] == 0)] = 0
    return out, np.nan_to_num(rows[:, :3])


def _tracks(frames: int, bodies: list[_Body]) -> Floats:
    """(M, T, V, 3): the body that moves most comes first; bodies that are never seen together share a track."""
    if len(bodies) > 1:
        long = [body for body in bodies if len(body.space) > _SHORT] or bodies
        people = [body for body in long if body.flat < _MOSTLY] or long
        bodies = sorted(people, key=lambda body: -body.motion)
    tracks: list[dict[int, Floats]] = []
    for body in bodies:
        free = next((track for track in tracks if not track.keys() & body.picture.keys()), None)
        if free is None:
            tracks.append(dict(body.picture))
        else:
            free.update(body.picture)
    out = np.zeros((max(1, len(tracks)), frames, 25, 3), np.float32)
    for m, track in enumerate(tracks):
        for t, keypoints in track.items():
            out[m, t] = keypoints
    return out
