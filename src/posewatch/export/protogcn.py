"""ProtoGCN as it is exported: equal to ``network.py`` in eval mode, arranged for the runtimes that serve it.

ONNX Runtime and OpenVINO fuse a convolution with the addition and the ReLU that follow it. So batch norms are folded
into the convolutions around them, convolutions of the same input are one, the mean joint is computed apart from the
others, the frames are the last axis (17 joints fill no vector), and there is no branch that only training needs. 10.07
GFLOP a clip in the published order of operations become 7.5.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewatch.recognition.models.base import Network, Output, mean_over_people
from posewatch.recognition.models.protogcn.network import Block, GraphConvolution, ProtoGCN, TemporalConvolution
from posewatch.recognition.recogniser import Recogniser

Windowed = TypeVar("Windowed", nn.Conv2d, nn.MaxPool2d)


def arrange(recogniser: Recogniser, *, skip_absent: bool = True) -> None:
    """Replace the networks of a recogniser by the forms that are exported; predictions do not change.

    ``skip_absent``: with nothing to compute for persons who are not there (``Network``).
    """
    features, joints = recogniser.features, len(recogniser.layout.joints)
    for i, (network, branch) in enumerate(zip(recogniser.networks, recogniser.branches, strict=True)):
        if isinstance(network, ProtoGCN):
            recogniser.networks[i] = ExportedProtoGCN(network).eval()
        else:
            cast(Network, network).trim()
        exported = cast(Network, recogniser.networks[i])
        exported.skip_absent = skip_absent
        if skip_absent and features.kind != "body":
            exported.remember_nobody(recogniser.frames, joints, features.channels(branch.stream))


class ExportedProtoGCN(Network):
    """Features (N, M, T, V, C) → ``Output``, equal to that of ``source`` in eval mode."""

    def __init__(self, source: ProtoGCN) -> None:
        super().__init__()
        blocks = cast("Sequence[Block]", source.blocks)
        joints = blocks[0].graph.topology.shape[-1]
        self.scale, self.shift = (_constant(t.view(joints, -1)) for t in _affine(source.input_norm))
        self.blocks = nn.ModuleList(_Block(block) for block in blocks)
        self.classify = source.classify

    def forward(self, x: Tensor, present: Tensor | None = None) -> Output:
        persons = self.persons(x, present)
        x = (persons.rows * self.scale + self.shift).permute(0, 3, 2, 1)
        for block in self.blocks:
            x = block(x)
        embedding = mean_over_people(persons.by_clip(x.mean((2, 3))), present)
        return Output(self.classify(embedding), embedding)


class _Block(nn.Module):
    """(B, C, V, T) → (B, D, V, T / stride)."""

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
    """The graph convolution, over a topology folded for each sample."""

    def __init__(self, source: GraphConvolution) -> None:
        super().__init__()
        self.mid = source.mid
        self.subsets = len(source.topology)
        self.pre = _folded([source.pre[0]], [source.pre[1]])
        # Queries and keys are averaged over time; averaging their input is the same, T times cheaper.
        self.weight = _constant(torch.cat([source.query.weight, source.key.weight]).flatten(1))
        self.bias = _constant(torch.cat([cast(Tensor, source.query.bias), cast(Tensor, source.key.bias)]))
        self.alpha, self.beta = _constant(source.alpha[0]), _constant(source.beta[0])
        self.topology = _constant(source.topology[:, None].transpose(2, 3))
        self.post = _folded([source.post], [source.norm])
        self.down: nn.Module | None = None
        if isinstance(source.down, nn.Sequential):
            self.down = _folded([source.down[0]], [source.down[1]])

    def forward(self, x: Tensor) -> Tensor:
        b, _, v, t = x.shape
        both = F.linear(F.avg_pool2d(x, (1, t)).flatten(2).transpose(1, 2), self.weight, self.bias)
        q, k = both.view(b, v, 2, self.subsets, self.mid).permute(2, 0, 3, 4, 1)
        differ = torch.tanh(q.unsqueeze(-2) - k.unsqueeze(-1)) * self.alpha
        alike = torch.softmax(k.transpose(2, 3) @ q, -1) * self.beta
        graph = differ + (alike.unsqueeze(2) + self.topology)
        y = graph @ F.relu(self.pre(x)).view(b, self.subsets, self.mid, v, t)
        return F.relu(self.post(y.flatten(1, 2)) + (x if self.down is None else self.down(x)))


class _Time(nn.Module):
    """The six temporal branches, of the joints and of the mean joint, which is added to every joint.

    The batch norm after the branches is in their weights. The mean joint is computed apart: appended to the others it
    would cost two copies of all activations.
    """

    def __init__(self, source: TemporalConvolution, joints: int) -> None:
        super().__init__()
        branches = cast("list[nn.Sequential]", list(source.branches))
        norm, _, last = source.transform
        scale, shift = _affine(cast(nn.BatchNorm2d, norm))
        self.joints = _Views(branches, scale, shift)
        self.middle = _Views(branches, scale, torch.zeros_like(shift)).sharing(self.joints)
        # Expanded to all channels: runtimes with the channels innermost then multiply whole rows.
        self.share = _constant(source.mean_joint[:joints, None].expand(len(scale), joints, 1))
        self.last = _folded([last], [source.norm])

    def forward(self, x: Tensor, add: Tensor | None) -> Tensor:
        middle = F.avg_pool2d(x, (self.share.shape[1], 1))
        y = self.last(F.relu(self.joints(x) + self.middle(middle) * self.share))
        return F.relu(y if add is None else y + add)


class _Views(nn.Module):
    """(B, C, V, T) → (B, C, V, T / stride), multiplied by ``scale`` and shifted by ``shift`` per channel."""

    def __init__(self, branches: Sequence[nn.Sequential], scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        *dilated, pooled, plain = branches
        self.widths = [cast(nn.Conv2d, branch[0]).out_channels for branch in dilated]
        cuts = [*self.widths, cast(nn.Conv2d, pooled[0]).out_channels]
        scales, shifts = (t.split([*cuts, len(t) - sum(cuts)]) for t in (scale, shift))
        self.reduce = _folded([branch[0] for branch in dilated], [branch[1] for branch in dilated])
        self.reduce_pooled = _folded([pooled[0]], [pooled[1]])
        rows = zip(dilated, scales, shifts, strict=False)
        self.convolutions = nn.ModuleList(_scaled(cast(nn.Conv2d, branch[3]), *how) for branch, *how in rows)
        self.pool = _turned(copy.deepcopy(cast(nn.MaxPool2d, pooled[3])))
        self.scale, self.shift = _constant(scales[-2][:, None, None]), _constant(shifts[-2][:, None, None])
        self.plain = _scaled(cast(nn.Conv2d, plain), scales[-1], shifts[-1])

    def forward(self, x: Tensor) -> Tensor:
        rows = F.relu(self.reduce(x)).split(self.widths, 1)
        parts = [convolution(row) for convolution, row in zip(self.convolutions, rows, strict=True)]
        pooled = self.pool(F.relu(self.reduce_pooled(x))) * self.scale + self.shift
        return torch.cat([*parts, pooled, self.plain(x)], 1)

    def sharing(self, other: _Views) -> _Views:
        """Take the weights of ``other``, so that the file holds them once; returns itself.

        The biases are copies: OpenVINO adds a bias that two convolutions share in a pass of its own.
        """
        for name in ("reduce", "reduce_pooled", "plain"):
            setattr(self, name, _Apart(getattr(self, name), getattr(other, name)))
        pairs = zip(self.convolutions, other.convolutions, strict=True)
        self.convolutions = nn.ModuleList(_Apart(*cast("tuple[nn.Conv2d, nn.Conv2d]", pair)) for pair in pairs)
        return self


class _Apart(nn.Module):
    """A convolution with the weights of another and its bias added separately."""

    def __init__(self, source: nn.Conv2d, weights: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = weights.weight, _constant(cast(Tensor, source.bias)[:, None, None])
        self.how = {name: getattr(source, name) for name in ("stride", "padding", "dilation")}

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, None, **self.how) + self.bias


def _constant(x: Tensor) -> nn.Parameter:
    return nn.Parameter(x.detach().clone(), requires_grad=False)


def _affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The factor and the summand of a batch norm in eval mode."""
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
    folded = nn.Conv2d(first.in_channels, sum(len(w) for w in weights), 1, cast("tuple[int, int]", first.stride)[::-1])
    folded.weight, folded.bias = _constant(torch.cat(weights)), _constant(torch.cat(biases))
    return folded


def _scaled(source: nn.Conv2d, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    """A convolution with its results scaled and shifted per channel."""
    scaled = _turned(copy.deepcopy(source))
    scaled.weight = _constant((source.weight * scale[:, None, None, None]).transpose(2, 3))
    scaled.bias = _constant(cast(Tensor, source.bias) * scale + shift)
    return scaled


def _turned(layer: Windowed) -> Windowed:
    """A convolution or pooling over the last axis instead of the one before it."""
    for name in ("kernel_size", "stride", "padding", "dilation"):
        size = getattr(layer, name)
        setattr(layer, name, size[::-1] if isinstance(size, tuple) else size)
    return layer
