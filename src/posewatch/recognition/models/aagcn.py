"""AAGCN, successor of 2s-AGCN: a learned graph plus one per clip, and attention to joints, frames and channels.

"Two-Stream Adaptive Graph Convolutional Networks for Skeleton-Based Action Recognition", CVPR 2019, arXiv 1805.07694;
attention from "Skeleton-Based Action Recognition with Multi-Stream Adaptive Graph Convolutional Networks", TIP 2020,
arXiv 1912.06971, in the arrangement of PYSKL (arXiv 2205.09443). The two streams are two networks, on joints and on
bones. Shapes: B clips times persons, C channels, T frames, V joints, K subsets of the graph.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewatch.recognition.models.layers import Block, GraphNetwork, Stage, normed, over_time, side_by_side, start

KERNEL = 9


class Attention(nn.Module):
    """(B, C, T, V) → the same, scaled by 1 to 2 per joint, then per frame, then per channel."""

    def __init__(self, channels: int, joints: int) -> None:
        super().__init__()
        odd = joints if joints % 2 else joints - 1
        self.joints = nn.Conv1d(channels, 1, odd, padding=odd // 2)
        self.frames = nn.Conv1d(channels, 1, KERNEL, padding=KERNEL // 2)
        self.squeeze = nn.Linear(channels, channels // 2)
        self.excite = nn.Linear(channels // 2, channels)
        nn.init.xavier_normal_(self.joints.weight)
        nn.init.kaiming_normal_(self.squeeze.weight)
        for zero in (self.frames.weight, self.excite.weight):
            nn.init.zeros_(zero)
        for layer in (self.joints, self.frames, self.squeeze, self.excite):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        # All three only scale, so the means for the later ones follow from the first without another pass over x.
        joints = 1 + torch.sigmoid(self.joints(x.mean(2)))
        mean_joint = torch.einsum("bctv,bv->bct", x, joints[:, 0]) / x.shape[3]
        frames = 1 + torch.sigmoid(self.frames(mean_joint))
        mean = (mean_joint * frames).mean(2)
        channels = 1 + torch.sigmoid(self.excite(F.relu(self.squeeze(mean))))
        return x * (joints.unsqueeze(2) * frames.unsqueeze(3)) * channels[:, :, None, None]


class GraphConvolution(nn.Module):
    """(B, C, T, V) → (B, D, T, V) over a learned graph plus, in each clip, how alike two joints move."""

    def __init__(self, channels: int, out: int, graph: Tensor) -> None:
        super().__init__()
        subsets, joints = len(graph), graph.shape[-1]
        self.subsets, self.inner = subsets, max(1, out // 4)
        self.graph = nn.Parameter(graph.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.query = start(nn.Conv2d(channels, subsets * self.inner, 1), subsets)
        self.key = start(nn.Conv2d(channels, subsets * self.inner, 1), subsets)
        self.gather = nn.Conv2d(channels, subsets * out, 1)
        self.norm = nn.BatchNorm2d(out)
        self.down = nn.Identity() if channels == out else normed(start(nn.Conv2d(channels, out, 1)))
        self.attend = Attention(out, joints)
        # As published: the block begins as nearly its residual alone and lets the graph in as it learns.
        nn.init.constant_(self.norm.weight, 1e-6)
        nn.init.normal_(self.gather.weight, std=math.sqrt(2 / (out * channels * subsets)))
        assert self.gather.bias is not None
        nn.init.zeros_(self.gather.bias)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, v = x.shape
        q = self.query(x).view(b, self.subsets, self.inner * t, v)
        k = self.key(x).view(b, self.subsets, self.inner * t, v)
        alike = torch.tanh(q.transpose(2, 3) @ k / (self.inner * t))
        graph = self.graph + alike * self.alpha
        gathered = (x.view(b, 1, c * t, v) @ graph).view(b, self.subsets * c, t, v)
        assert self.gather.bias is not None
        bias = self.gather.bias.view(self.subsets, -1).sum(0)
        y = F.conv2d(gathered, side_by_side(self.gather, self.subsets), bias)
        y = self.attend(F.relu(self.norm(y) + self.down(x)))
        return cast(Tensor, y)


class AAGCN(GraphNetwork):
    """Features (N, M, T, V, C) → ``Output``. The paper's width is 64."""

    def block(self, stage: Stage, graph: Tensor) -> Block:
        time = normed(start(over_time(stage.out, stage.out, KERNEL, stage.stride)))
        return Block(GraphConvolution(stage.channels, stage.out, graph), time, stage)
