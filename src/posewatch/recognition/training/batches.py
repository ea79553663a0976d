"""Training clips → batches on the device. On a GPU the clips lie in its memory, and are sampled there: one Python
thread cannot make batches as fast as a GPU trains on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posewatch.config import TrainConfig
from posewatch.datasets.clipset import ClipSet
from posewatch.recognition.sampling import chosen_people, training_batch, training_times

_SHARE = 0.25
"""Share of a GPU's free memory that clips may take; larger sets are sampled by the CPU."""


class Batches(Protocol):
    """Makes batches of the clips at ``picked`` (B,), each sampled with its seed."""

    def batch(self, picked: NDArray[np.int64], seeds: Sequence[Sequence[int]]) -> Tensor:
        """float32 (B, M, T, V, 3) on the device."""
        ...


def batches_of(clips: ClipSet, config: TrainConfig, device: torch.device) -> Batches:
    """On a GPU with enough free memory the clips go there once; else each batch is made here and copied."""
    if device.type == "cuda" and size_of(clips, config) < _SHARE * torch.cuda.mem_get_info(device)[0]:
        return DeviceBatches(clips, config, device)
    return HostBatches(clips, config, device)


def emphasis_of(clips: ClipSet, config: TrainConfig) -> NDArray[np.float32]:
    """The weight (N,) of each clip in the loss: 1, or ``verdict_weight`` where a verdict gave the label."""
    known = np.array(clips.sources or [""] * len(clips)) == "verdict"
    return np.where(known, config.verdict_weight, 1.0).astype(np.float32)


def size_of(clips: ClipSet, config: TrainConfig) -> int:
    """Bytes that ``DeviceBatches`` takes."""
    longest = max((k.shape[1] for k in clips.keypoints), default=0)
    return len(clips) * config.people * longest * (clips.keypoints[0].shape[2] if len(clips) else 0) * 12


class HostBatches(Batches):
    """Samples on the CPU."""

    def __init__(self, clips: ClipSet, config: TrainConfig, device: torch.device) -> None:
        self._clips, self._config, self._device = clips, config, device

    def batch(self, picked: NDArray[np.int64], seeds: Sequence[Sequence[int]]) -> Tensor:
        return torch.from_numpy(training_batch(self._clips, picked, self._config, seeds)).to(self._device)


class DeviceBatches(Batches):
    """Samples on the device, from equal seeds at equal times; on a CPU the result is bit-equal to ``HostBatches``."""

    def __init__(self, clips: ClipSet, config: TrainConfig, device: torch.device) -> None:
        self._config, self._device = config, device
        self._lengths = np.array([k.shape[1] for k in clips.keypoints])
        shape = (len(clips), int(self._lengths.max()), config.people, clips.keypoints[0].shape[2], 3)
        padded = np.zeros(shape, np.float32)
        for row, clip in zip(padded, clips.keypoints, strict=True):
            chosen = clip[chosen_people(clip[:, :, : clip.shape[2] - clips.flow], config.people, config.people_by)]
            row[: clip.shape[1], : len(chosen)] = chosen.transpose(1, 0, 2, 3)
        self._clips = torch.from_numpy(padded).to(device)

    def batch(self, picked: NDArray[np.int64], seeds: Sequence[Sequence[int]]) -> Tensor:
        lengths = self._lengths[picked]
        when = np.stack([training_times(int(n), self._config, s) for n, s in zip(lengths, seeds, strict=True)])
        last = (lengths - 1)[:, None]
        when = np.clip(when, 0, last)
        low = np.floor(when).astype(np.int64)
        index = torch.from_numpy(
            np.stack([np.broadcast_to(picked[:, None], low.shape), low, np.minimum(low + 1, last)])
        )
        part = torch.from_numpy((when - low).astype(np.float32))
        if self._device.type == "cuda":  # from pinned memory the copy waits for nothing
            index, part = index.pin_memory(), part.pin_memory()
        clip, first, second = index.to(self._device, non_blocking=True)
        part = part.to(self._device, non_blocking=True)[..., None, None, None]
        a, b = self._clips[clip, first], self._clips[clip, second]  # (B, T, M, V, 3)
        both = (a[..., 2:] > 0) & (b[..., 2:] > 0)
        # of two frames of which one lacks the joint, the nearer one (see ``sampling.sample``)
        return torch.where(both, a + (b - a) * part, torch.where(part < 0.5, a, b)).transpose(1, 2).contiguous()
