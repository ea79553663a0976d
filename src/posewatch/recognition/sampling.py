"""Clips of any length → T frames of M persons: interpolated, or sampled as in the published recipes."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch.config import AugmentConfig, TrainConfig
from posewatch.datasets.clipset import ClipSet


def uniform(length: int, frames: int, rng: np.random.RandomState) -> NDArray[np.int64]:
    """One random frame of each of ``frames`` equal parts of a clip of ``length`` frames: (frames,) indices of frames.

    PYSKL's uniform sampling (arXiv 2205.09443), number by number for the same ``rng``. A clip of less than twice
    ``frames`` is taken frame by frame with random ones left out; one shorter than ``frames`` is repeated from a random
    frame on.
    """
    # The published code draws a speed and an offset first; its recipes leave one choice of each.
    rng.rand()
    rng.randint(1)
    if length < frames:
        return (rng.randint(length) + np.arange(frames)) % length
    if length < 2 * frames:
        skipped = np.zeros(frames + 1, np.int64)
        skipped[rng.choice(frames + 1, length - frames, replace=False)] = 1
        return np.arange(frames) + np.cumsum(skipped)[:-1]
    edges = np.arange(frames + 1) * length // frames
    return edges[:-1] + rng.randint(np.diff(edges))


@functools.lru_cache(4096)
def uniform_test(length: int, frames: int, clips: int) -> NDArray[np.int64]:
    """The published test samplings of a clip of ``length`` frames: (clips, frames) indices, the same in every run.

    As ``uniform`` from seed 255, but clips shorter than ``frames`` begin at evenly spaced frames.
    """
    rng = np.random.RandomState(255)
    out = np.stack([uniform(length, frames, rng) for _ in range(clips)])
    if length < frames:
        starts = np.arange(clips) * max(length, clips) // clips
        out = (starts[:, None] + np.arange(frames)) % length
    out.setflags(write=False)
    return out


def training_batch(
    clips: ClipSet, picked: NDArray[np.int64], config: TrainConfig, seeds: Sequence[Sequence[int]]
) -> NDArray[np.float32]:
    """The clips at ``picked`` (B,), each sampled with the seed of its position in the epoch: (B, M, T, V, 3)."""
    out = []
    for i, seed in zip(picked, seeds, strict=True):
        clip = clips.keypoints[i]
        out.append(sample(clip, training_times(clip.shape[1], config, seed), config.people))
    return np.stack(out)


def training_times(length: int, config: TrainConfig, seed: Sequence[int]) -> NDArray[np.float64]:
    """The times (T,), in frames, at which a training clip of ``length`` frames is sampled, from ``seed``."""
    if config.features != "body":
        rng = np.random.RandomState(np.random.PCG64(seed))
        return uniform(length, config.clip_frames, rng).astype(np.float64)
    return times(length, config.clip_frames, config.augment, np.random.default_rng(seed))


def sampled(clips: ClipSet, config: TrainConfig, version: int = 0) -> NDArray[np.float32]:
    """All clips for evaluation, (N, M, T, V, 3); ``version`` chooses the sampling, the same in every run."""
    if config.features == "body" and version == 0:
        return resample(clips.keypoints, config.clip_frames, config.people)
    rng = np.random.default_rng([255, version])
    out = []
    for clip in clips.keypoints:
        if config.features != "body":
            count = max(config.test_clips, version + 1)
            when = uniform_test(clip.shape[1], config.clip_frames, count)[version].astype(np.float64)
        else:
            # Slightly cut and shifted versions; uneven time is for training only.
            cut = 0.1 * rng.random(2)
            when = np.linspace(cut[0], 1 - cut[1], config.clip_frames) * (clip.shape[1] - 1)
        out.append(sample(clip, when, config.people))
    return np.stack(out) if out else resample((), config.clip_frames, config.people)


def sample(clip: NDArray[np.float32], times: NDArray[np.float64], people: int) -> NDArray[np.float32]:
    """One clip (M, T_i, V, 3) at ``times`` (T,), in frames → (people, T, V, 3).

    A joint is interpolated where both neighbouring frames have it; else it is taken from the nearer frame, so that a
    missing joint (score 0) never pulls a seen one towards (0, 0). Of more than ``people`` the most visible ones stay.
    """
    clip = most_visible(clip, people)
    length, v = clip.shape[1:3]
    times = np.clip(times, 0, length - 1)
    low = np.floor(times).astype(int)
    high = np.minimum(low + 1, length - 1)
    part = (times - low).astype(np.float32)[None, :, None, None]
    a, b = clip[:, low], clip[:, high]
    both = (a[..., 2:] > 0) & (b[..., 2:] > 0)
    joints = np.where(both, a + (b - a) * part, np.where(part < 0.5, a, b))
    out = np.zeros((people, len(times), v, 3), np.float32)
    out[: len(joints)] = joints
    return out


def most_visible(clip: NDArray[np.float32], people: int) -> NDArray[np.float32]:
    """The at most ``people`` persons of a clip (M, T, V, 3) that are seen most, in their order."""
    if len(clip) <= people:
        return clip
    presence = (clip[..., 2] > 0).sum((1, 2))
    return clip[np.sort(np.argsort(-presence, kind="stable")[:people])]


def resample(keypoints: Sequence[NDArray[np.float32]], frames: int, people: int) -> NDArray[np.float32]:
    """Clips (M_i, T_i, V, 3) → (N, people, frames, V, 3), uniform in time from the first frame to the last."""
    if not keypoints:
        return np.zeros((0, people, frames, 0, 3), np.float32)
    return np.stack([sample(k, np.linspace(0, k.shape[1] - 1, frames), people) for k in keypoints])


def times(length: int, frames: int, config: AugmentConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    """Augmented sampling times (frames,) of a clip of ``length`` frames: cut at both ends and unevenly spaced."""
    part = 1 - config.crop * rng.random()
    start = rng.uniform(0, 1 - part)
    u = np.linspace(0, 1, frames)
    # Monotone as long as the amplitude stays below 1.
    bend = min(config.speed, 0.9) * rng.uniform(-1, 1) / (2 * np.pi)
    u = u + bend * np.sin(2 * np.pi * u + rng.uniform(0, 2 * np.pi))
    u = (u - u[0]) / max(u[-1] - u[0], 1e-9) if frames > 1 else u * 0
    return (start + part * u) * (length - 1)
