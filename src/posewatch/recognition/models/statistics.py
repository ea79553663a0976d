"""Logistic regression on statistics of the poses, as a network: for a few dozen labels, alone or in an ensemble.

It is `evaluation.baselines`'s logistic regression with what a network has and that has not: it is trained on augmented
clips, calibrated, exported and served. Shapes: N clips, M persons, T frames, V joints, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewatch.recognition.models.base import Network, Output

PEOPLE = 2
"""Persons whose statistics count: those who move most."""
REACH = 16.0
"""Length of a typical embedding: how far a step of the optimiser moves the answers."""


class PoseStatistics(Network):
    """Features (N, M, T, V, C) → ``Output``. Of every person means, deviations, ranges and speeds; of two, how far
    apart they are. The loss of its own keeps the weights small."""

    def __init__(self, joints: int, classes: int, width: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        each = joints * in_channels * 3 + joints * 3 + in_channels * 2 + 1
        size = PEOPLE * (each + joints * 2) + 4
        # what hardly varies in training is not blown up: a millionth would become more than exports may differ by
        self.norm = nn.BatchNorm1d(size, affine=False, eps=1e-3)
        self.classify = nn.Linear(size, classes)
        nn.init.zeros_(self.classify.weight)
        nn.init.zeros_(self.classify.bias)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Output:
        z = self.norm(self.statistics(x, present))
        embedding = z.clamp(-5, 5) * (REACH / z.shape[1] ** 0.5)
        return Output(self.classify(embedding), embedding)

    def statistics(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """(N, F): of the two persons who move most, in that order; zero for one who is not there."""
        n, m, t, v, c = x.shape
        there = x.new_ones(n, m) if present is None else present
        x = x * there[:, :, None, None, None]
        if m < PEOPLE:
            x, there = F.pad(x, (0, 0, 0, 0, 0, 0, 0, PEOPLE - m)), F.pad(there, (0, PEOPLE - m))
        step = (x[:, :, 1:, :, :2] - x[:, :, :-1, :, :2]).square().sum(-1).add(1e-12).sqrt()
        order = (step.mean((2, 3)) + there).argsort(1, descending=True)[:, :PEOPLE]
        there = there.gather(1, order)
        x = x.gather(1, order[:, :, None, None, None].expand(-1, -1, t, v, c))
        step = step.gather(1, order[:, :, None, None].expand(-1, -1, t - 1, v))
        middle = x.mean(3)
        parts = [
            *(x.mean(2), _deviation(x), x.amax(2) - x.amin(2)),
            *(step.mean(2), step.amax(2), _deviation(step)),
            *(_deviation(middle), middle.amax(2) - middle.amin(2), there),
        ]
        both = there.amin(1)
        apart = _distance(middle[:, 0] - middle[:, 1]) * both[:, None]
        parts.append(torch.stack([apart.mean(1), apart.amin(1), apart.amax(1), apart[:, -1] - apart[:, 0]], 1))
        for one, other in ((0, 1), (1, 0)):
            reach = _distance(x[:, one] - middle[:, other, :, None]) * both[:, None, None]
            parts += [reach.amin(1), reach.mean(1)]
        return torch.cat([part.flatten(1) for part in parts], 1)

    def auxiliary_loss(self, output: Output, labels: Tensor) -> Tensor:
        return self.classify.weight.square().sum() / 2


def _deviation(x: Tensor) -> Tensor:
    """Standard deviation over the third axis."""
    return (x - x.mean(2, keepdim=True)).square().mean(2).add(1e-12).sqrt()


def _distance(x: Tensor) -> Tensor:
    return x[..., :2].square().sum(-1).add(1e-12).sqrt()
