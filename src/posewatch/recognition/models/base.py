"""The interface of every network, for training, export and serving."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from posewatch.errors import ConfigError


class Output(NamedTuple):
    """The output of a network for N clips.

    logits          (N, K)
    embedding       (N, D)
    reconstruction  the input of ``Network.auxiliary_loss``, in training only; None in eval mode
    """

    logits: Tensor
    embedding: Tensor
    reconstruction: Tensor | None = None


class Persons(NamedTuple):
    """The persons of N clips as the ``rows`` of one batch, (B, ...).

    ``place`` (N * M,) is the row of each and ``there`` (N, M) who is one; None where all N * M are rows, in order.
    ``nobody`` (D,) is the result for persons who are not there.
    """

    rows: Tensor
    shape: tuple[int, int]
    place: Tensor | None = None
    there: Tensor | None = None
    nobody: Tensor | None = None

    def by_clip(self, y: Tensor) -> Tensor:
        """What was computed of each row, (B, D) → (N, M, D); zero, or ``nobody``, for persons who are not there."""
        if self.place is None or self.there is None:
            return y.view(*self.shape, -1)
        there = self.there.unsqueeze(-1)
        y = y.index_select(0, self.place).view(*self.shape, -1) * there
        return y if self.nobody is None else y + self.nobody * (1 - there)


class Network(nn.Module):
    """Features (N, M, T, V, C) and, optionally, ``present`` (N, M) in 0..1 (which persons exist) → ``Output``.

    ``skip_absent``: nothing is computed for persons who are not there, and they are no part of batch statistics, so the
    shapes inside depend on the clips. CUDA graphs, ``torch.compile`` and TensorRT want it off.
    """

    skip_absent = True
    nobody: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("nobody", None, persistent=False)

    def persons(self, x: Tensor, present: Tensor | None) -> Persons:
        """Features (N, M, ...) → those of each person that is to be computed, one at least."""
        n, m = x.shape[:2]
        if not self.skip_absent or (present is None and (self.training or self.nobody is None)):
            return Persons(x.flatten(0, 1), (n, m))
        there = (x != 0).flatten(2).any(2).to(x.dtype) if present is None else present
        chosen = there.flatten() > 0
        if not self.training:  # there the first row is always computed: what is exported has one path
            chosen = torch.cat([torch.ones_like(chosen[:1]), chosen[1:]])
        rows = chosen.nonzero().squeeze(1)
        if self.training and not len(rows):  # never in the statistics of a batch that shows somebody
            rows = rows.new_zeros(1)
        torch._check(rows.shape[0] > 0)  # the exporter cannot know
        place = (chosen.long().cumsum(0) - 1).clamp(min=0)
        return Persons(x.flatten(0, 1).index_select(0, rows), (n, m), place, there, self.nobody)

    def remember_nobody(self, frames: int, joints: int, channels: int) -> None:
        """Compute once what the network makes of a person who is not there, all zeros: for features without
        ``present``, in whose recipes absent persons count. Valid until the weights change."""
        with torch.no_grad():
            zeros = next(self.parameters()).new_zeros(1, 1, frames, joints, channels)
            self.nobody = self(zeros).embedding[0]

    def maps(self, rows: Tensor) -> Tensor:
        """Features of single persons (B, T, V, C) → what ``forward`` takes the mean of, (B, D, T', V)."""
        raise ConfigError(f"{type(self).__name__} has no layers to pretrain: take a graph network")

    def auxiliary_loss(self, output: Output, labels: Tensor) -> Tensor:
        """A loss beside cross-entropy: a scalar, zero for networks that have none. ``labels`` int64 (N,)."""
        return output.logits.new_zeros(())

    def trim(self) -> None:
        """Drop the parts that only training needs; eval outputs do not change."""


def mean_over_people(x: Tensor, present: Tensor | None) -> Tensor:
    """Mean over the second dimension of (N, M, ...); with ``present`` (N, M) in 0..1, of the present ones only."""
    if present is None:
        return x.mean(1)
    weight = present.reshape(*present.shape, *([1] * (x.dim() - 2)))
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1)
