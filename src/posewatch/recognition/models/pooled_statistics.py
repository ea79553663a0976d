"""How joints lie and move at the mean and at the most, over frames and persons: for few clips of real surveillance.

There skeletons flicker, and who of two persons is the first one means nothing. So all is pooled over the persons, and
dropout keeps the head from any single statistic. Shapes: N clips, M persons, T frames, V joints, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posewatch.recognition import distributed as parallel
from posewatch.recognition.models.base import Network, Output, mean_over_people
from posewatch.recognition.models.statistics import REACH

DROPOUT = 0.5
FAR = 1e4
"""Above any statistic of a body of size 1 or of a picture in pixels, and within half precision."""


class PooledStatistics(Network):
    """Features (N, M, T, V, C) → ``Output``. Of each channel and joint the mean, the spread and the largest size over
    time; of those the mean and the largest over the persons present; normalised, then linear."""

    def __init__(self, joints: int, classes: int, width: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        size = 2 * 3 * joints * in_channels
        self.norm = nn.BatchNorm1d(size)
        self.classify = nn.Linear(size, classes)
        nn.init.zeros_(self.classify.weight)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Output:
        mean = x.mean(2)
        spread = ((x - mean.unsqueeze(2)).square().mean(2) + 1e-6).sqrt()
        each = torch.cat([mean, spread, x.abs().amax(2)], -1).flatten(2)
        there = torch.ones_like(each[..., :1]) if present is None else present.unsqueeze(-1)
        largest = (each * there - (1 - there) * FAR).amax(1) * there.amax(1)
        found = self.norm(torch.cat([mean_over_people(each, present), largest], -1))
        logits = self.classify(parallel.dropout(found, DROPOUT, self.training))
        return Output(logits, found.clamp(-5, 5) * (REACH / found.shape[1] ** 0.5))
