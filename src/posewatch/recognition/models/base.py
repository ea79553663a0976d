"""The interface of every network, for training, export and serving."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Output(NamedTuple):
    """The output of a network for N clips.

    logits          (N, K)
    embedding       (N, D)
    reconstruction  the input of ``Network.auxiliary_loss``, in training only; None in eval mode
    """

    logits: Tensor
    embedding: Tensor
    reconstruction: Tensor | None = None


class Network(nn.Module):
    """Features (N, M, T, V, C) and, optionally, ``present`` (N, M) in 0..1 (which persons exist) → ``Output``."""

    def maps(self, rows: Tensor) -> Tensor:
        """Features of single persons (B, T, V, C) → what ``forward`` takes the mean of, (B, D, T', V)."""
        raise TypeError(f"{type(self).__name__} gives no maps")

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
