"""Clips of any length → T frames of M persons: interpolated, or chosen as the published recipes do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch.config import TrainConfig
from posewatch.recognition.augment import times
from posewatch.recognition.dataset import ClipSet, resample, sample


def uniform(length: int, frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """One random frame of each of ``frames`` equal parts of a clip, as pyskl does (arXiv 2205.09443): whole frames.

    A clip shorter than ``frames`` is looked at from a random start on, beginning anew at its end.
    """
    if length < frames:
        return ((rng.integers(0, length) + np.arange(frames)) % length).astype(np.float64)
    edges = np.arange(frames + 1) * length // frames
    return (edges[:-1] + rng.integers(0, np.maximum(np.diff(edges), 1))).astype(np.float64)


def training_batch(
    clips: ClipSet, picked: NDArray[np.int64], config: TrainConfig, seeds: Sequence[Sequence[int]]
) -> NDArray[np.float32]:
    """The clips at ``picked`` (B,), each sampled anew by the seed of its place in the epoch: (B, M, T, V, 3)."""
    out = []
    for i, seed in zip(picked, seeds, strict=True):
        clip, rng = clips.keypoints[i], np.random.default_rng(seed)
        if config.features == "raw":
            when = uniform(clip.shape[1], config.frames, rng)
        else:
            when = times(clip.shape[1], config.frames, config.augment, rng)
        out.append(sample(clip, when, config.people))
    return np.stack(out)


def sampled(clips: ClipSet, config: TrainConfig, version: int = 0) -> NDArray[np.float32]:
    """All clips for evaluation, (N, M, T, V, 3); each ``version`` is another sampling, the same in every run."""
    if config.features == "body" and version == 0:
        return resample(clips.keypoints, config.frames, config.people)
    rng = np.random.default_rng([255, version])
    out = []
    for clip in clips.keypoints:
        if config.features == "raw":
            when = uniform(clip.shape[1], config.frames, rng)
        else:
            # Slightly cut and shifted versions; uneven time is for training only.
            cut = 0.1 * rng.random(2)
            when = np.linspace(cut[0], 1 - cut[1], config.frames) * (clip.shape[1] - 1)
        out.append(sample(clip, when, config.people))
    return np.stack(out) if out else resample((), config.frames, config.people)
