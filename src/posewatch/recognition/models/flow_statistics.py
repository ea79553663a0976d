"""How pixels move, at the mean and at the most, over frames and persons: what skeletons do not tell.

A pose network sees little of two people in a clinch, in the dark or far away; that something moves fast and every way
is in the pixels all the same. Shapes: N clips, M persons, T frames, S columns of flow, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from posewatch.recognition.models.base import Network, Output, mean_over_people
from posewatch.recognition.models.pooled_statistics import FAR
from posewatch.recognition.models.statistics import REACH

UNIT = 100.0
"""What the numbers are multiplied with (``perception/flow.py``): their logarithm begins straight and bends above 1."""
WAVES = 256
"""Random cosines of the statistics, which a linear network can bend its border with."""


class FlowStatistics(Network):
    """Flow (N, M, T, S, C), whose last channel is 1 where it was measured, else 0 → ``Output``. Of the logarithm of
    each number the mean, the spread, the largest and the mean step over time; of those the mean and the largest over
    the persons with flow; normalised. These and random Fourier features of them (Rahimi and Recht, 2007: the kernel of
    a Gaussian whose variance is half their number), then linear. Without any flow the embedding is 0. Of the scene
    (stream fs), which all persons share, mean and largest are the same."""

    waves: Tensor
    phases: Tensor

    def __init__(self, joints: int, classes: int, width: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        size = 2 * 4 * joints * (in_channels - 1)
        # what hardly varies in training is not blown up
        self.norm = nn.BatchNorm1d(size, affine=False, eps=1e-5)
        self.register_buffer("waves", torch.randn(size, WAVES) * math.sqrt(2 / size))
        self.register_buffer("phases", torch.rand(WAVES) * 2 * math.pi)
        self.classify = nn.Linear(size + WAVES, classes)
        nn.init.zeros_(self.classify.weight)
        nn.init.zeros_(self.classify.bias)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Output:
        seen = (x[..., -1].amax(-1) > 0).to(x.dtype)[..., None]  # (N, M, T, 1)
        seen = seen if present is None else seen * present[:, :, None, None]
        numbers = x[..., :-1].flatten(3) / UNIT
        numbers = torch.sign(numbers) * torch.log1p(numbers.abs()) * seen
        count = seen.sum(2).clamp(min=1)
        mean = numbers.sum(2) / count
        spread = (((numbers - mean.unsqueeze(2)).square() * seen).sum(2) / count + 1e-6).sqrt()
        both = seen[:, :, 1:] * seen[:, :, :-1]
        step = ((numbers[:, :, 1:] - numbers[:, :, :-1]).abs() * both).sum(2) / both.sum(2).clamp(min=1)
        there = seen.amax(2)  # (N, M, 1)
        each = torch.cat([mean, spread, numbers.amax(2), step], -1) * there
        largest = (each - (1 - there) * FAR).amax(1) * there.amax(1)
        found = self.norm(torch.cat([mean_over_people(each, there.squeeze(-1)), largest], -1)).clamp(-5, 5)
        waves = torch.cos(found @ self.waves + self.phases) * math.sqrt(2 / WAVES)
        # each half of about the same length
        both_ways = torch.cat([found / math.sqrt(found.shape[1]), waves], 1) * math.sqrt(0.5)
        known = there.amax(1)  # (N, 1)
        embedding = both_ways * known * REACH
        return Output(self.classify(embedding), embedding)

    def auxiliary_loss(self, output: Output, labels: Tensor) -> Tensor:
        return self.classify.weight.square().sum() / 2
