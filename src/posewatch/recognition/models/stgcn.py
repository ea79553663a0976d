"""ST-GCN: the first graph network on skeletons. The graph is the body's, fixed; how much each edge counts is learned.

"Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action Recognition", AAAI 2018, arXiv 1801.07455, in
the arrangement of PYSKL (arXiv 2205.09443), whose figures are the ones quoted today: no dropout, and one set of weights
for all persons. Shapes: B clips times persons, C channels, T frames, V joints, K subsets of the graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewatch.recognition.models.graph import stgcn_spatial
from posewatch.recognition.models.layers import Block, GraphNetwork, Stage, normed, over_time, side_by_side

KERNEL = 9
"""Frames that a convolution over time sees."""


class SubsetConvolution(nn.Module):
    """(B, C, T, V) and graphs (K, V, V) → (B, D, T, V): each subset's weights, its graph, the sum over subsets.

    Published as convolution first, graph second. Both are linear, so the graph may come first, where there are fewer
    channels and one convolution then does the sum, too; only the biases have to pass the graph on their own.
    """

    def __init__(self, channels: int, out: int, subsets: int) -> None:
        super().__init__()
        self.subsets = subsets
        self.convolve = nn.Conv2d(channels, out * subsets, 1)

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        b, c, t, v = x.shape
        gathered = torch.einsum("bctu,kuw->bkctw", x, graph).reshape(b, self.subsets * c, t, v)
        assert self.convolve.bias is not None
        bias = self.convolve.bias.view(self.subsets, -1).T @ graph.sum(1)
        return F.conv2d(gathered, side_by_side(self.convolve, self.subsets)) + bias.unsqueeze(1)


class GraphConvolution(nn.Module):
    """(B, C, T, V) → (B, D, T, V) over the body's graph, each edge weighted by its learned importance."""

    graph: Tensor

    def __init__(self, channels: int, out: int, graph: Tensor) -> None:
        super().__init__()
        self.register_buffer("graph", graph, persistent=False)
        self.importance = nn.Parameter(torch.ones_like(graph))
        self.gather = SubsetConvolution(channels, out, len(graph))
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.gather(x, self.graph * self.importance)))


class STGCN(GraphNetwork):
    """Features (N, M, T, V, C) → ``Output``. The paper's width is 64."""

    partition = staticmethod(stgcn_spatial)

    def block(self, stage: Stage, graph: Tensor) -> Block:
        time = normed(over_time(stage.out, stage.out, KERNEL, stage.stride))
        return Block(GraphConvolution(stage.channels, stage.out, graph), time, stage)
