"""Labelled clips for a machine without data: made-up people who walk about, and some who fall."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posewatch.datasets.clipset import ClipSet
from posewatch.errors import InputError

_BODY = np.array(
    [[0, -1.6], [-0.05, -1.65], [0.05, -1.65], [-0.1, -1.6], [0.1, -1.6], [-0.22, -1.4], [0.22, -1.4], [-0.3, -1.1],
     [0.3, -1.1], [-0.32, -0.8], [0.32, -0.8], [-0.15, -0.9], [0.15, -0.9], [-0.15, -0.45], [0.15, -0.45], [-0.15, 0],
     [0.15, 0]]
)  # fmt: skip
"""COCO-17 of somebody who stands, in metres from the feet up."""


def made_up(count: int, frames: int, seed: int = 0) -> ClipSet:
    """``count`` clips of one or two people, half of them with a fall; coco17, 10 frames per second."""
    rng = np.random.default_rng(seed)
    clips = []
    labels = np.arange(count) % 2
    for label in labels:
        people = 1 + int(rng.random() < 0.5)
        length = int(rng.integers(max(8, frames // 2), frames * 2))
        t = np.linspace(0, 1, length)[:, None, None]
        keypoints = np.zeros((people, length, 17, 3), np.float32)
        for person in range(people):
            body = _BODY * (1 + 0.1 * rng.normal())
            swing = (
                0.15 * np.sin(2 * np.pi * (rng.uniform(1, 3) * t + rng.random())) * (np.arange(17)[None, :, None] > 6)
            )
            moved = np.repeat(body[None], length, 0) + swing * np.where(np.arange(17) % 2, 1, -1)[None, :, None]
            if label and person == 0:
                angle = np.clip((t - rng.uniform(0.2, 0.5)) / 0.15, 0, 1) * np.pi / 2 * rng.choice([-1, 1])
                x, y, c, d = moved[..., :1], moved[..., 1:], np.cos(angle), np.sin(angle)
                moved = np.concatenate([x * c - y * d, x * d + y * c], -1)
            way = rng.normal(0, 1, 2) * t
            points = 150 * moved + np.array([rng.uniform(150, 490), 400]) + 60 * way
            points += rng.normal(0, 2, points.shape)
            keypoints[person, ..., :2] = points
            keypoints[person, ..., 2] = rng.uniform(0.4, 1, (length, 17))
        keypoints[rng.random(keypoints.shape[:-1]) < 0.05] = 0
        clips.append(keypoints)
    names = tuple(f"made-up-{i:05d}" for i in range(count))
    return ClipSet(tuple(clips), labels.astype(np.int64), ("normal", "fall"), names, names)


def sets_of(annotations: Path | None, count: int, frames: int) -> tuple[ClipSet, ClipSet]:
    """Training and test clips of a pyskl file, else made-up ones. Raises InputError for a file without these splits."""
    if annotations is None:
        return made_up(count, frames), made_up(max(16, count // 4), frames, seed=1)
    from posewatch.datasets.pyskl import read_pyskl

    clips, splits = read_pyskl(annotations, drop_empty=True)
    if not splits.get("train") or not (test := splits.get("test") or splits.get("val")):
        raise InputError(
            f"{annotations} has no splits train and test: write them with `posewatch dataset`, or leave it out"
        )
    return clips.subset(splits["train"]), clips.subset(test)
