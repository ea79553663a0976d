"""Parts that the graph networks share: ten blocks, input norm, head, and convolutions over time.

Shapes: N clips, M persons, B = N * M, C channels, T frames, V joints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from posewatch.datasets.layouts import Layout
from posewatch.recognition.models.base import Network, Output, mean_over_people
from posewatch.recognition.models.graph import Matrix, spatial

MULTIPLES = (1, 1, 1, 1, 2, 2, 2, 4, 4, 4)
"""Width of each block in multiples of the first: as in ST-GCN and its successors."""


Padding = Literal["zeros", "replicate"]
"""What stands before the first and after the last frame: zeros, or that frame again."""


class Stage(NamedTuple):
    """Sizes of one block: channels in and out, the stride over time, and whether its input is added to its output."""

    channels: int
    out: int
    stride: int
    residual: bool


def stages(in_channels: int, width: int) -> Iterator[Stage]:
    """The blocks; one that doubles the channels halves the frame rate, and the first adds no residual."""
    channels = in_channels
    for i, multiple in enumerate(MULTIPLES):
        stride = 2 if i and multiple != MULTIPLES[i - 1] else 1
        yield Stage(channels, width * multiple, stride, residual=i > 0)
        channels = width * multiple


class GraphNetwork(Network):
    """Input norm, ten blocks that each take (B, C, T, V), and a linear head on the mean over frames, joints, persons.

    The input is normalised per joint and channel, alike for all persons, so that a clip may hold any number of them.
    """

    partition: Callable[[Layout], Matrix] = staticmethod(spatial)
    """The adjacency (K, V, V) of a layout."""
    space: Callable[[int, int, Tensor], nn.Module]
    time: Callable[[int, int], nn.Module]
    """What makes a block's convolution over the graph, of (channels, out, graph), and over time, of (out, stride)."""

    def __init__(self, layout: Layout, classes: int, width: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        graph = torch.from_numpy(self.partition(layout))
        blocks = [self.block(stage, graph) for stage in stages(in_channels, width)]
        self.input_norm = nn.BatchNorm1d(len(layout.joints) * in_channels)
        self.blocks = nn.Sequential(*blocks)
        self.classify = nn.Linear(width * MULTIPLES[-1], classes)

    def block(self, stage: Stage, graph: Tensor) -> nn.Module:
        """A block of the sizes of ``stage``, on the adjacency (K, V, V)."""
        return Block(self.space(stage.channels, stage.out, graph), self.time(stage.out, stage.stride), stage)

    def maps(self, rows: Tensor) -> Tensor:
        b, t, v, c = rows.shape
        x = self.input_norm(rows.permute(0, 2, 3, 1).reshape(b, v * c, t))
        return cast(Tensor, self.blocks(x.view(b, v, c, t).permute(0, 2, 3, 1).contiguous()))

    def forward(self, x: Tensor, present: Tensor | None = None) -> Output:
        """Features (N, M, T, V, C) and, optionally, ``present`` (N, M) in 0..1."""
        persons = self.persons(x, present)
        b, t, v, c = persons.rows.shape
        x = self.input_norm(persons.rows.permute(0, 2, 3, 1).reshape(b, v * c, t))
        x = x.view(b, v, c, t).permute(0, 2, 3, 1).contiguous()
        x = self.blocks(x).mean((2, 3))
        embedding = mean_over_people(persons.by_clip(x), present)
        return Output(self.classify(embedding), embedding)


def over_time(
    channels: int, out: int, kernel: int, stride: int = 1, dilation: int = 1, padding: Padding = "zeros"
) -> nn.Conv2d:
    """A convolution of ``kernel`` frames that pads so that T shrinks by ``stride`` only; ``padding`` as in torch."""
    pad = (dilation * (kernel - 1) // 2, 0)
    return nn.Conv2d(channels, out, (kernel, 1), (stride, 1), pad, (dilation, 1), padding_mode=padding)


def normed(convolution: nn.Conv2d) -> nn.Sequential:
    """The convolution and its batch norm."""
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))


def reduced(channels: int, out: int) -> list[nn.Module]:
    """The start of a temporal branch: 1x1 convolution, norm, ReLU."""
    return [nn.Conv2d(channels, out, 1), nn.BatchNorm2d(out), nn.ReLU()]


def side_by_side(convolution: nn.Conv2d, subsets: int) -> Tensor:
    """The weights of K 1x1 convolutions C → D, stored as one C → K * D, as one K * C → D that also adds them up."""
    c = convolution.in_channels
    return convolution.weight.view(subsets, -1, c).transpose(0, 1).reshape(-1, subsets * c, 1, 1)


def start(convolution: nn.Conv2d, parts: int = 1) -> nn.Conv2d:
    """Initialise as 2s-AGCN and CTR-GCN do: He's rule on the outputs, no bias. ``parts`` convolutions share it."""
    outputs = convolution.out_channels // parts * convolution.kernel_size[0]
    nn.init.normal_(convolution.weight, std=math.sqrt(2 / outputs))
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


class Block(nn.Module):
    """ReLU(time(graph(x)) + x), x projected where its shape differs; (B, C, T, V) → (B, D, T', V)."""

    def __init__(self, graph: nn.Module, time: nn.Module, stage: Stage) -> None:
        super().__init__()
        self.graph, self.time = graph, time
        self.residual: nn.Module | None = None
        if stage.residual:
            same = stage.channels == stage.out and stage.stride == 1
            self.residual = nn.Identity() if same else normed(over_time(stage.channels, stage.out, 1, stage.stride))

    def forward(self, x: Tensor) -> Tensor:
        y = self.time(self.graph(x))
        if self.residual is not None:
            y = y + self.residual(x)
        return cast(Tensor, y.relu())
