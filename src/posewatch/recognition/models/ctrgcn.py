"""CTR-GCN: a graph of its own for every channel, refined in each clip from how differently two joints move.

"Channel-wise Topology Refinement Graph Convolution for Skeleton-Based Action Recognition", ICCV 2021, arXiv 2107.12213,
in the arrangement of PYSKL (arXiv 2205.09443). Shapes: B clips times persons, C channels, T frames, V joints, K subsets
of the graph, R channels of the relations between joints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewatch.recognition.models.layers import GraphNetwork, Padding, normed, over_time, reduced, start

KERNEL = 5
DILATIONS = (1, 2)


class GraphConvolution(nn.Module):
    """(B, C, T, V) → (B, D, T, V): K learned graphs, each refined per clip and channel, and the sum over them."""

    def __init__(self, channels: int, out: int, graph: Tensor) -> None:
        super().__init__()
        self.subsets = len(graph)
        self.relations = 8 if channels <= 16 else channels // 8
        self.graph = nn.Parameter(graph.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        relations, values = self.subsets * self.relations, self.subsets * out
        self.query = start(nn.Conv2d(channels, relations, 1), self.subsets)
        self.key = start(nn.Conv2d(channels, relations, 1), self.subsets)
        self.value = start(nn.Conv2d(channels, values, 1), self.subsets)
        self.refine = start(nn.Conv2d(relations, values, 1, groups=self.subsets), self.subsets)
        self.norm = nn.BatchNorm2d(out)
        self.down = nn.Identity() if channels == out else normed(start(nn.Conv2d(channels, out, 1)))
        # As published: the block begins as nearly its residual alone and lets the graph in as it learns.
        nn.init.constant_(self.norm.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        b, _, t, v = x.shape
        # The convolutions are linear and 1x1, so the mean over time may come first: T times less work.
        still = x.mean(2)[..., None]
        differ = torch.tanh(self.query(still) - self.key(still).transpose(2, 3))
        refined = self.refine(differ).view(b, self.subsets, -1, v, v)
        graph = refined * self.alpha + self.graph.unsqueeze(1)
        y = (self.value(x).view(b, self.subsets, -1, t, v) @ graph).sum(1)
        return F.relu(self.norm(y) + self.down(x))


class TemporalConvolution(nn.Module):
    """(B, C, T, V) → (B, C, T / stride, V): two dilated convolutions, a maximum and a 1x1, side by side."""

    def __init__(self, channels: int, stride: int, padding: Padding = "zeros") -> None:
        super().__init__()
        part = channels // (len(DILATIONS) + 2)
        rest = channels - part * (len(DILATIONS) + 1)
        self.branches = nn.ModuleList(
            nn.Sequential(*reduced(channels, part), normed(over_time(part, part, KERNEL, stride, dilation, padding)))
            for dilation in DILATIONS
        )
        pool = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
        self.branches.append(nn.Sequential(*reduced(channels, part), pool, nn.BatchNorm2d(part)))
        self.branches.append(normed(over_time(channels, rest, 1, stride)))

    def forward(self, x: Tensor) -> Tensor:
        # PYSKL ends with one more ReLU here; the paper adds the residual first, and so do the authors.
        return torch.cat([branch(x) for branch in self.branches], 1)


class CTRGCN(GraphNetwork):
    """Features (N, M, T, V, C) → ``Output``. The paper's width is 64."""

    space, time = GraphConvolution, TemporalConvolution
