"""Training clips as other cameras, other bodies and worse pose estimators would have seen them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch.layouts import Layout
from posewatch.recognition.dataset import sample

TURN, SQUEEZE, RESIZE, JITTER = 0.25, 0.2, 0.1, 0.02
"""Largest rotation in radians, relative stretch of the width, relative size of one person, noise in body sizes."""


def augment(
    clips: Sequence[NDArray[np.float32]],
    layout: Layout,
    frames: int,
    people: int,
    joint_dropout: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """B clips (M_i, T_i, V, 3) → a training batch (B, people, frames, V, 3).

    Each clip is cut and resampled in time, mirrored, turned, stretched and disturbed; in half of the clips joints go
    missing (score 0), ``joint_dropout`` of all joints on average: scattered ones, whole tracks of a joint, or all
    joints for some frames.
    """
    return np.stack([_one(clip, layout, frames, people, joint_dropout, rng) for clip in clips])


def _one(
    clip: NDArray[np.float32], layout: Layout, frames: int, people: int, joint_dropout: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    length = clip.shape[1]
    part = rng.uniform(0.75, 1.0)
    start = rng.uniform(0, 1 - part)
    x = sample(clip, np.linspace(start, start + part, frames) * (length - 1), people)
    seen = x[..., 2] > 0
    if not seen.any():
        return x
    middle = x[seen][:, :2].mean(0)
    size = float(np.sqrt(((x[seen][:, :2] - middle) ** 2).mean())) + 1e-6
    xy = x[..., :2] - middle
    if rng.random() < 0.5:
        order = list(layout.mirror[: layout.observed])
        xy, x, seen = xy[:, :, order] * np.array([-1, 1], np.float32), x[:, :, order], seen[:, :, order]
    for person in range(len(xy)):
        if seen[person].any():
            own = xy[person][seen[person]].mean(0)
            xy[person] = own + (xy[person] - own) * (1 + rng.uniform(-RESIZE, RESIZE))
    angle = rng.uniform(-TURN, TURN)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag([1 + rng.uniform(-SQUEEZE, SQUEEZE), 1.0])
    xy = xy @ (turn @ stretch).T + rng.normal(0, JITTER * size * rng.random(), xy.shape)
    x = np.concatenate([xy + middle, x[..., 2:]], -1).astype(np.float32)
    if joint_dropout > 0 and rng.random() < 0.5:
        seen = seen & ~_drop(seen.shape, min(0.9, 4 * joint_dropout * rng.random()), rng)
    x[~seen] = 0
    return x


def _drop(shape: tuple[int, ...], rate: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which joints (M, T, V) go missing."""
    m, t, v = shape
    kind = rng.integers(3)
    if kind == 0:
        return rng.random((m, t, v)) < rate
    if kind == 1:
        return np.broadcast_to(rng.random((m, 1, v)) < rate, shape)
    return np.broadcast_to(rng.random((m, t, 1)) < rate, shape)
