"""Small synthetic skeletons: two classes that differ in how the arms move, in many places, sizes and tempos."""

from __future__ import annotations

import numpy as np

from posewatch.datasets.clipset import ClipSet

STANDING = np.array(
    [
        *((0, -70), (3, -74), (-3, -74), (7, -72), (-7, -72), (16, -50), (-16, -50), (20, -25), (-20, -25)),
        *((22, 0), (-22, 0), (10, 0), (-10, 0), (11, 40), (-11, 40), (11, 80), (-11, 80)),
    ],
    np.float32,
)


def walk(seed: int, waving: bool, frames: int | None = None, people: int = 1) -> np.ndarray:
    """(people, T, 17, 3): somebody who walks, with arms raised and waving or not."""
    rng = np.random.default_rng(seed)
    t = frames or int(rng.integers(18, 40))
    clip = np.zeros((people, t, 17, 3), np.float32)
    for person in range(people):
        phase = rng.uniform(0, 6) + np.linspace(0, rng.uniform(6, 14), t)
        pose = np.repeat(STANDING[None], t, 0)
        swing = 15 * np.sin(phase)
        pose[:, 15, 0] += swing
        pose[:, 16, 0] -= swing
        if waving:
            pose[:, [9, 10], 1] = -95 + 12 * np.sin(3 * phase)[:, None]
        pose = pose * rng.uniform(0.6, 1.6) + rng.uniform(150, 400, 2) + np.linspace(0, 1, t)[:, None, None] * 60
        clip[person, ..., :2] = pose + rng.normal(0, 1.0, pose.shape)
        clip[person, ..., 2] = rng.uniform(0.5, 1, (t, 17))
    return clip


def clip_set(count: int, first: int = 0, people: int = 1) -> ClipSet:
    """``count`` clips, half of them abnormal, each from a video of its own."""
    names = tuple(f"clip{first + i}" for i in range(count))
    return ClipSet(
        tuple(walk(first + i, bool(i % 2), people=people) for i in range(count)),
        np.array([i % 2 for i in range(count)]),
        ("normal", "abnormal"),
        names,
        tuple(f"video-{n}" for n in names),
    )
