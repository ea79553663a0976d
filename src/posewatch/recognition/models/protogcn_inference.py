"""ProtoGCN as it is exported: equal in eval mode, arranged for the runtimes that serve it.

Those fuse a convolution with the addition and the ReLU behind it, want (B, C, T, V) and have no use for what was
chosen for training's sake. So: batch norms folded into the convolutions before them, convolutions of one input side by
side as one, the mean over time before the convolutions that are averaged over time, and no branch that only training
needs. 10.07 GFLOP a clip in the published order of operations become 7.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewatch.recognition.models.base import Network, Output, mean_over_people

if TYPE_CHECKING:
    from posewatch.recognition.models.protogcn import Block, GraphConvolution, ProtoGCN, TemporalConvolution


class InferenceProtoGCN(Network):
    """Features (N, M, T, V, C) → ``Output``: what the ``ProtoGCN`` that it is made from says in eval mode."""

    def __init__(self, source: ProtoGCN) -> None:
        super().__init__()
        blocks = cast("Sequence[Block]", source.blocks)
        joints = blocks[0].graph.topology.shape[-1]
        self.scale, self.shift = (_constant(t.view(joints, -1)) for t in _affine(source.input_norm))
        self.blocks = nn.ModuleList(_Block(block) for block in blocks)
        self.classify = source.classify

    def forward(self, x: Tensor, present: Tensor | None = None) -> Output:
        n, m = x.shape[:2]
        x = (x * self.scale + self.shift).flatten(0, 1).permute(0, 3, 1, 2)
        for block in self.blocks:
            x = block(x)
        embedding = mean_over_people(x.mean((2, 3)).view(n, m, -1), present)
        return Output(self.classify(embedding), embedding)


class _Block(nn.Module):
    """(B, C, T, V) → (B, D, T / stride, V)."""

    def __init__(self, source: Block) -> None:
        super().__init__()
        self.graph = _Graph(source.graph)
        self.time = _Time(source.time, source.graph.topology.shape[-1])
        self.identity = source.identity
        self.residual: nn.Module | None = None
        if source.residual is not None:
            self.residual = _folded([source.residual[0]], [source.residual[1]])

    def forward(self, x: Tensor) -> Tensor:
        add = self.residual(x) if self.residual is not None else x if self.identity else None
        return self.time(self.graph(x), add)


class _Graph(nn.Module):
    """The graph convolution, over a topology made for each sample."""

    def __init__(self, source: GraphConvolution) -> None:
        super().__init__()
        self.mid = source.mid
        self.subsets = len(source.topology)
        self.pre = _folded([source.pre[0]], [source.pre[1]])
        # Queries and keys are averaged over time; averaging their input is the same, T times cheaper.
        self.weight = _constant(torch.cat([source.query.weight, source.key.weight]).flatten(1))
        self.bias = _constant(torch.cat([cast(Tensor, source.query.bias), cast(Tensor, source.key.bias)])[:, None])
        self.alpha, self.beta = _constant(source.alpha[0]), _constant(source.beta[0])
        self.topology = _constant(source.topology[:, None])
        self.post = _folded([source.post], [source.norm])
        self.down: nn.Module | None = None
        if isinstance(source.down, nn.Sequential):
            self.down = _folded([source.down[0]], [source.down[1]])

    def forward(self, x: Tensor) -> Tensor:
        b, _, t, v = x.shape
        both = (self.weight @ x.mean(2) + self.bias).view(b, 2, self.subsets, self.mid, v)
        q, k = both[:, 0], both[:, 1]
        differ = torch.tanh(q.unsqueeze(-1) - k.unsqueeze(-2)) * self.alpha
        alike = torch.softmax(q.transpose(2, 3) @ k, -2) * self.beta
        graph = differ + (alike.unsqueeze(2) + self.topology)
        y = F.relu(self.pre(x)).view(b, self.subsets, self.mid, t, v) @ graph
        return F.relu(self.post(y.flatten(1, 2)) + (x if self.down is None else self.down(x)))


class _Time(nn.Module):
    """The six views of time, the mean joint beside the others as one more."""

    def __init__(self, source: TemporalConvolution, joints: int) -> None:
        super().__init__()
        branches = cast("list[nn.Sequential]", list(source.branches))
        self.reduce = _folded([branch[0] for branch in branches[:-1]], [branch[1] for branch in branches[:-1]])
        self.convolutions = nn.ModuleList(cast(nn.Conv2d, branch[3]) for branch in branches[:-2])
        self.pool = branches[-2][3]
        self.plain = cast(nn.Conv2d, branches[-1])
        self.widths = [cast(nn.Conv2d, branch[0]).out_channels for branch in branches[:-1]]
        norm, _, last = source.transform
        self.scale, self.shift = (_constant(t[:, None, None]) for t in _affine(cast(nn.BatchNorm2d, norm)))
        self.share = _constant(source.mean_joint[:joints])
        self.last = _folded([last], [source.norm])

    def forward(self, x: Tensor, add: Tensor | None) -> Tensor:
        joints = len(self.share)
        x = torch.cat([x, x.mean(-1, keepdim=True)], -1)
        *rows, pooled = F.relu(self.reduce(x)).split(self.widths, 1)
        parts = [convolution(row) for convolution, row in zip(self.convolutions, rows, strict=True)]
        y = torch.cat([*parts, self.pool(pooled), self.plain(x)], 1)
        y = y[..., :joints] + y[..., joints:] * self.share
        y = self.last(F.relu(y * self.scale + self.shift))
        return F.relu(y if add is None else y + add)


def _constant(x: Tensor) -> nn.Parameter:
    return nn.Parameter(x.detach().clone(), requires_grad=False)


def _affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a batch norm in eval mode multiplies with, and what it adds then."""
    scale = norm.weight * torch.rsqrt(cast(Tensor, norm.running_var) + norm.eps)
    return scale, norm.bias - cast(Tensor, norm.running_mean) * scale


def _folded(convolutions: Sequence[nn.Module], norms: Sequence[nn.Module]) -> nn.Conv2d:
    """1x1 convolutions of one input, each with its batch norm, as a single convolution."""
    pairs = list(zip(cast("Sequence[nn.Conv2d]", convolutions), cast("Sequence[nn.BatchNorm2d]", norms), strict=True))
    weights, biases = [], []
    for convolution, norm in pairs:
        scale, shift = _affine(norm)
        weights.append(convolution.weight * scale[:, None, None, None])
        biases.append(cast(Tensor, convolution.bias) * scale + shift)
    first = pairs[0][0]
    made = nn.Conv2d(first.in_channels, sum(len(w) for w in weights), 1, cast("tuple[int, int]", first.stride))
    made.weight, made.bias = _constant(torch.cat(weights)), _constant(torch.cat(biases))
    return made
