"""ST-GCN++: ST-GCN with a learned graph that starts as the body's, a residual around it, and six temporal branches.

"PYSKL: Towards Good Practices for Skeleton Action Recognition", ACM Multimedia 2022, arXiv 2205.09443. Small, fast and
hard to beat. Shapes: B clips times persons, C channels, T frames, V joints, K subsets of the graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewatch.recognition.models.layers import GraphNetwork, normed, over_time, reduced
from posewatch.recognition.models.stgcn import SubsetConvolution

DILATIONS = (1, 2, 3, 4)


class GraphConvolution(nn.Module):
    """(B, C, T, V) → (B, D, T, V) over a learned graph that starts as the body's."""

    def __init__(self, channels: int, out: int, graph: Tensor) -> None:
        super().__init__()
        self.graph = nn.Parameter(graph.clone())
        self.gather = SubsetConvolution(channels, out, len(graph))
        self.norm = nn.BatchNorm2d(out)
        self.down = nn.Identity() if channels == out else normed(nn.Conv2d(channels, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.gather(x, self.graph)) + self.down(x))


class TemporalConvolution(nn.Module):
    """(B, C, T, V) → (B, C, T / stride, V): four dilated convolutions, a maximum and a 1x1 side by side, then mixed."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        part = channels // (len(DILATIONS) + 2)
        # Channels that do not divide by six go to the first branch.
        widths = (channels - part * (len(DILATIONS) + 1), *[part] * (len(DILATIONS) - 1))
        self.branches = nn.ModuleList(
            nn.Sequential(*reduced(channels, width), over_time(width, width, 3, stride, dilation))
            for width, dilation in zip(widths, DILATIONS, strict=True)
        )
        self.branches.append(nn.Sequential(*reduced(channels, part), nn.MaxPool2d((3, 1), (stride, 1), (1, 0))))
        self.branches.append(over_time(channels, part, 1, stride))
        self.mix = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), normed(nn.Conv2d(channels, channels, 1)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(torch.cat([branch(x) for branch in self.branches], 1))
        return y


class STGCNpp(GraphNetwork):
    """Features (N, M, T, V, C) → ``Output``. The paper's width is 64."""

    space, time = GraphConvolution, TemporalConvolution
