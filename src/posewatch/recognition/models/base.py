"""What every network has in common, so that training, export and serving treat them alike."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Output(NamedTuple):
    """What a network says of N clips.

    logits          (N, K)
    embedding       (N, D)
    reconstruction  whatever ``Network.auxiliary_loss`` needs, in training only; None in eval mode
    """

    logits: Tensor
    embedding: Tensor
    reconstruction: Tensor | None = None


class Network(nn.Module):
    """Features (N, M, T, V, C) and, optionally, who is there (N, M) in; ``Output`` out."""

    def auxiliary_loss(self, output: Output, labels: Tensor) -> Tensor:
        """A loss beside cross-entropy: a scalar, zero for networks that have none. ``labels`` int64 (N,)."""
        return output.logits.new_zeros(())

    def trim(self) -> None:
        """Drop the parts that only training needs; eval outputs do not change."""

    def for_inference(self) -> Network:
        """A network with equal eval outputs that is arranged for export; it may share weights with this one."""
        self.trim()
        return self


def mean_over_people(x: Tensor, present: Tensor | None) -> Tensor:
    """Mean over the second dimension of (N, M, ...); with ``present`` (N, M) in 0..1, of those who are there only."""
    if present is None:
        return x.mean(1)
    weight = present.reshape(*present.shape, *([1] * (x.dim() - 2)))
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1)
