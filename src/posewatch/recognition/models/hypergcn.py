"""Hyper-GCN: besides the body's graph, a hyper-graph per clip that joins each joint with those that move like it, and
virtual joints that all others are connected to.

"Adaptive Hyper-Graph Convolution Network for Skeleton-based Human Action Recognition with Virtual Connections", ICCV
2025, arXiv 2411.14796, the base model. Shapes: B clips times persons, C channels, T frames, V joints, U = V + 3 with
the virtual ones, K heads.
"""

from __future__ import annotations

import itertools
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewatch.datasets.layouts import Layout
from posewatch.recognition.models.base import Network, Output, mean_over_people
from posewatch.recognition.models.ctrgcn import TemporalConvolution
from posewatch.recognition.models.graph import Matrix, directed
from posewatch.recognition.models.layers import Block, Stage, normed, start

HEADS, VIRTUAL, NEAREST = 8, 3, 9
"""Parts of the channels with a graph of their own; virtual joints; joints that a hyper-edge joins."""
REDUCED = 4
"""Channels of a head for each one that distances are measured in."""
MULTIPLES = (1, 2, 2)
"""Width of each group of three blocks, in multiples of the first; from the second on, each halves the frame rate."""


def connected(layout: Layout) -> Matrix:
    """(U, U) of 0 and 1: bones in both directions, each joint itself, and every virtual joint with all of the body."""
    v = len(layout.joints)
    matrix = np.eye(v + VIRTUAL, dtype=np.float32)
    bones = directed(layout)
    matrix[:v, :v] += bones + bones.T
    matrix[:v, v:] = matrix[v:, :v] = 1
    return matrix


class HyperGraphConvolution(nn.Module):
    """(B, C, T, V) → (B, D, T, V), on the body's graph and the clip's hyper-graph; each head sees its own channels."""

    body: Tensor

    def __init__(self, channels: int, out: int, body: Tensor) -> None:
        super().__init__()
        hidden = HEADS * max(1, channels // HEADS // REDUCED)
        self.register_buffer("body", body, persistent=False)
        self.importance = nn.Parameter(torch.ones(HEADS, *body.shape))
        self.virtual = nn.Parameter(torch.randn(channels, VIRTUAL))
        self.alpha = nn.Parameter(torch.ones(1))
        self.place = nn.Conv1d(channels, hidden, 1, groups=HEADS)
        of_joint, of_edge = nn.Conv1d(channels, hidden, 1, groups=HEADS), nn.Conv1d(hidden, HEADS, 1)
        self.weigh = nn.Sequential(of_joint, nn.LeakyReLU(), of_edge, nn.Tanh())
        for convolution in (self.place, of_joint, of_edge):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out")
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
        self.value = start(nn.Conv2d(channels, out, 1, groups=HEADS))
        self.norm = nn.BatchNorm2d(out)
        self.down = nn.Identity() if channels == out else normed(start(nn.Conv2d(channels, out, 1)))
        # As published: the block begins as nearly its residual alone and lets the graph in as it learns.
        nn.init.constant_(self.norm.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        b, _, t, v = x.shape
        joints = torch.cat([x, self.virtual[:, None].expand(b, -1, t, -1)], 3)
        body = F.normalize(self.importance * self.body, p=1.0, dim=2, eps=1e-8)
        graph = body + self.alpha.relu() * self.hyper_graph(joints.mean(2))
        values = self.value(joints).view(b, HEADS, -1, v + VIRTUAL)
        y = (values @ graph.transpose(2, 3))[..., :v].reshape(b, -1, t, v)
        return F.relu(self.norm(y) + self.down(x))

    def hyper_graph(self, still: Tensor) -> Tensor:
        """The mean frame (B, C, U) → (B, K, U, U): what joint u takes from joint w through the hyper-edges that hold
        both. Each joint opens an edge; a joint belongs to those of its nearest ones, the more the nearer they are."""
        b, _, u = still.shape
        places = self.place(still).view(b, HEADS, -1, u)
        apart = (places[..., None] - places[..., None, :]).square().sum(2)
        apart = (apart + 1e-12).sqrt()  # its slope is finite where two are in one place
        farthest = apart.topk(min(NEAREST, u), largest=False).values[..., -1:]
        incidence = torch.softmax((-apart).masked_fill(apart > farthest, -1e9), 3)
        weights = self.weigh(still)[:, :, None]
        taken = F.normalize(incidence * weights, p=1.0, dim=3, eps=1e-8)
        given = incidence * weights / incidence.sum(2, keepdim=True).clamp(min=1e-8)
        return cast(Tensor, taken @ given.transpose(2, 3))


class Group(nn.Module):
    """Three blocks, (B, C, T, V) → (B, D, T', V); the third one also sees what the first one gave."""

    def __init__(self, channels: int, out: int, stride: int, body: Tensor) -> None:
        super().__init__()
        stages = [Stage(channels, out, stride, True), Stage(out, out, 1, True), Stage(out, out, 1, True)]
        self.first, self.second, self.third = (_block(stage, body) for stage in stages)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return cast(Tensor, self.third(x + self.second(x)))


def _block(stage: Stage, body: Tensor) -> Block:
    space = HyperGraphConvolution(stage.channels, stage.out, body)
    return Block(space, TemporalConvolution(stage.out, stage.stride, padding="replicate"), stage)


class HyperGCN(Network):
    """Features (N, M, T, V, C) → ``Output``. The paper's width is 128."""

    def __init__(self, layout: Layout, classes: int, width: int = 128, in_channels: int = 3) -> None:
        super().__init__()
        joints, body = len(layout.joints), torch.from_numpy(connected(layout))
        self.embed = nn.Linear(in_channels, width)
        self.position = nn.Parameter(torch.randn(joints, width))
        self.input_norm = nn.BatchNorm1d(joints * width)
        groups, channels = [], width
        for i, multiple in enumerate(MULTIPLES):
            groups.append(Group(channels, width * multiple, 2 if i else 1, body))
            channels = width * multiple
        self.groups = nn.Sequential(*groups)
        self.classify = nn.Linear(channels, classes)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Output:
        """Features (N, M, T, V, C) and, optionally, ``present`` (N, M) in 0..1."""
        persons = self.persons(x, present)
        b, t, v, _ = persons.rows.shape
        x = torch.tanh(self.embed(persons.rows) + self.position)
        x = self.input_norm(x.permute(0, 2, 3, 1).reshape(b, -1, t))
        x = x.view(b, v, -1, t).permute(0, 2, 3, 1).contiguous()
        x = self.groups(x)
        embedding = mean_over_people(persons.by_clip(x.mean((2, 3))), present)
        return Output(self.classify(embedding), embedding)

    def maps(self, rows: Tensor) -> Tensor:
        b, t, v, _ = rows.shape
        x = torch.tanh(self.embed(rows) + self.position)
        x = self.input_norm(x.permute(0, 2, 3, 1).reshape(b, -1, t))
        return cast(Tensor, self.groups(x.view(b, v, -1, t).permute(0, 2, 3, 1).contiguous()))

    def auxiliary_loss(self, output: Output, labels: Tensor) -> Tensor:
        """The paper's divergence loss: how alike the virtual joints of a block are, the mean positive cosine."""
        alike = []
        for module in self.modules():
            if isinstance(module, HyperGraphConvolution):
                pairs = itertools.combinations(F.normalize(module.virtual, dim=0).unbind(1), 2)
                alike += [(one * other).sum().relu() for one, other in pairs]
        return torch.stack(alike).mean()
