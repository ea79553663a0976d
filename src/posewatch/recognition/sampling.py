"""Clips of any length → T frames of M persons: interpolated, or sampled as in the published recipes; and who of a
crowd those persons are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from posewatch.config import AugmentConfig, TrainConfig
from posewatch.datasets.clipset import ClipSet, with_flow
from posewatch.datasets.layouts import FLOW

_JOINTS, _STILL = 3, 0.1
"""Joints that a person must show in a frame to be somewhere; what two count who do not move, against 2 at the most."""


class Taker(Protocol):
    """What takes clips: a recogniser, or a predictor of one."""

    @property
    def frames(self) -> int: ...

    @property
    def people(self) -> int: ...

    @property
    def people_by(self) -> str: ...

    @property
    def joints(self) -> int: ...

    @property
    def flow(self) -> int: ...


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
        when = training_times(clip.shape[1], config, seed)
        out.append(sample(clip, when, config.people, config.people_by, clips.flow))
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
        return resample(clips.keypoints, config.clip_frames, config.people, config.people_by, clips.flow)
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
        out.append(sample(clip, when, config.people, config.people_by, clips.flow))
    return np.stack(out) if out else resample((), config.clip_frames, config.people)


def sample(
    clip: NDArray[np.float32], times: NDArray[np.float64], people: int, by: str = "presence", flow: int = 0
) -> NDArray[np.float32]:
    """One clip (M, T_i, V, 3) at ``times`` (T,), in frames → (people, T, V, 3).

    A joint is interpolated where both neighbouring frames have it; else it is taken from the nearer frame, so that a
    missing joint (score 0) never pulls a seen one towards (0, 0). Of more than ``people`` those remain whom
    ``chosen_people`` names. The last ``flow`` of V are no joints.
    """
    clip = clip[chosen_people(clip[:, :, : clip.shape[2] - flow], people, by)]
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


def chosen_people(clip: NDArray[np.float32], people: int, by: str = "presence") -> NDArray[np.int64]:
    """The at most ``people`` persons of a clip (M, T, V, 3) that are taken, as indices in rising order.

    ``presence``: those who are seen most. ``contact``: the two who are together the longest and closest, and move,
    then whoever is so with one of them. In a crowd those seen most are often bystanders near the camera. Where nobody
    is together, and for one person, it is the presence.
    """
    if len(clip) <= people:
        return np.arange(len(clip))
    presence = (clip[..., 2] > 0).sum((1, 2))
    near = togetherness(clip) if by == "contact" and people > 1 else np.zeros((len(clip), len(clip)))
    if not near.any():
        return np.sort(np.argsort(-presence, kind="stable")[:people])
    taken = [int(i) for i in np.unravel_index(near.argmax(), near.shape)]
    while len(taken) < people:
        best = near[taken].max(0) + presence / (1e6 * clip[0, ..., 0].size)  # of equals who is seen most
        best[taken] = -1
        taken.append(int(best.argmax()))
    return np.sort(taken)


def togetherness(clip: NDArray[np.float32]) -> NDArray[np.float64]:
    """How much each two persons of a clip (M, T, V, 3) have to do with each other, (M, M) from 0 on: the share of
    frames that show both, times how near they come, as 1 / (1 + distance) in body heights, times how much they move.

    A body height is taken for four times the joints' root mean square distance from their middle, at least a fiftieth
    of the largest: never a number of pixels, because coordinates may be metres or shares of the picture.
    """
    seen = clip[..., 2] > 0
    count = seen.sum(-1)
    there = count >= _JOINTS
    middle = (clip[..., :2] * seen[..., None]).sum(2) / np.maximum(count, 1)[..., None]
    square = ((clip[..., :2] - middle[:, :, None]) ** 2).sum(-1) * seen
    spread = np.sqrt(square.sum((1, 2)) / np.maximum(seen.sum((1, 2)), 1))
    spread = np.maximum(spread, max(spread.max() / 50, 1e-9))
    both = there[:, None] & there[None]
    apart = np.linalg.norm(middle[:, None] - middle[None], axis=-1)
    apart = np.where(both, apart / (4 * np.sqrt(spread[:, None] * spread[None]))[..., None], np.inf)
    near = both.mean(-1) / (1 + _lowest(apart, both))
    moved = seen[:, 1:] & seen[:, :-1]
    steps = np.linalg.norm(np.diff(clip[..., :2], axis=1), axis=-1) / spread[:, None, None]
    moved, steps = moved.reshape(len(clip), -1), steps.reshape(len(clip), -1)
    motion = np.where(moved.any(1), -_lowest(np.where(moved, -steps, np.inf), moved, 0.125), 0.0).clip(0, 1)
    near = near * (_STILL + motion[:, None] + motion[None])
    np.fill_diagonal(near, 0)
    return np.asarray(near, np.float64)


def _lowest(values: NDArray[np.float64], valid: NDArray[np.bool_], share: float = 0.25) -> NDArray[np.float64]:
    """The quantile ``share`` of the valid values along the last axis; the others are infinite."""
    at = (share * np.maximum(valid.sum(-1) - 1, 0)).astype(int)[..., None]
    return np.asarray(np.take_along_axis(np.sort(values, -1), at, -1)[..., 0], np.float64)


def fitting(keypoints: Sequence[NDArray[np.float32]], taker: Taker) -> NDArray[np.float32]:
    """Clips (M_i, T_i, V, 3) as ``taker`` takes them, (N, M, T, V, 3); those with flow for one that wants none are cut,
    those without it for one that does have it as not measured."""
    other = taker.joints - taker.flow + (0 if taker.flow else FLOW)
    have = FLOW - taker.flow  # of a clip that is not as the taker wants it
    fitted = [with_flow(k, have, taker.flow) if k.shape[2] == other else k for k in keypoints]
    return resample(fitted, taker.frames, taker.people, taker.people_by, taker.flow)


def resample(
    keypoints: Sequence[NDArray[np.float32]], frames: int, people: int, by: str = "presence", flow: int = 0
) -> NDArray[np.float32]:
    """Clips (M_i, T_i, V, 3) → (N, people, frames, V, 3), uniform in time from the first frame to the last. The last
    ``flow`` of V are no joints."""
    if not keypoints:
        return np.zeros((0, people, frames, 0, 3), np.float32)
    return np.stack([sample(k, np.linspace(0, k.shape[1] - 1, frames), people, by, flow) for k in keypoints])


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
