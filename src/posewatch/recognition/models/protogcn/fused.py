"""ProtoGCN on a CPU: ``network.py`` computed with fused operations on activations whose channels come first.

With activations as (C, pixels) a 1x1 convolution is one matrix product, the batch norm's statistics are sums of
contiguous rows, and joining or splitting channels costs nothing. A training step takes two thirds of the time and half
of the memory, and gives equal results (``tests/bench/test_training.py``). Pixels are (clip, frame, joint).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from posewatch.recognition import distributed as parallel
from posewatch.recognition.models.protogcn.fused_ops import combine, mix, topology
from posewatch.recognition.models.protogcn.network import (
    SUBSETS,
    Block,
    GraphConvolution,
    ProtoGCN,
    TemporalConvolution,
)
from posewatch.recognition.models.protogcn.temporal import temporal


class FusedProtoGCN(ProtoGCN):
    """``ProtoGCN`` with the same parameters and results, faster on a CPU.

    On GPUs, on several processes, under autocast and where gradients flow in eval mode, ``ProtoGCN`` itself runs.
    """

    def backbone(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        if (
            x.device.type != "cpu"
            or parallel.world() > 1
            or torch.is_autocast_enabled("cpu")
            or torch.compiler.is_compiling()
            or (torch.is_grad_enabled() and not self.training)
        ):
            return super().backbone(x)
        x = x.transpose(0, 1).contiguous()
        learned = None
        for block in self.blocks:
            wanted = block is self.blocks[-1] and self.training and self.prototypes is not None
            x, learned = _block(cast(Block, block), x, self.training, wanted)
        return x.transpose(0, 1), learned


def _block(block: Block, x: Tensor, training: bool, wanted: bool) -> tuple[Tensor, Tensor | None]:
    """(C, B, T, V) → (D, B, T / stride, V), and where it is ``wanted`` the learned graph (B, D, V, V)."""
    add = None
    if block.residual is not None:
        strided = x[:, :, :: block.time.stride].flatten(1)
        add = mix(strided, [block.residual[0]], [block.residual[1]], training=training, relu=False)
    elif block.identity:
        add = x.flatten(1)
    y, learned = _graph(block.graph, x, training, wanted)
    return _time(block.time, y, add, training), learned


def _graph(part: GraphConvolution, x: Tensor, training: bool, wanted: bool) -> tuple[Tensor, Tensor | None]:
    c, b, t, v = x.shape
    still = x.mean(2).view(c, -1)
    weight = torch.cat([part.query.weight, part.key.weight]).flatten(1)
    bias = torch.cat([cast(Tensor, part.query.bias), cast(Tensor, part.key.bias)])
    q, k = torch.addmm(bias[:, None], weight, still).view(2, SUBSETS, part.mid, b, v)
    pixels = x.view(c, -1)
    y = mix(pixels, [part.pre[0]], [part.pre[1]], training=training, recompute=True)
    y, learned = topology(
        y.view(SUBSETS, part.mid, b, t, v), q, k, part.topology, part.alpha[0], part.beta[0],
        training=training, wanted=wanted,
    )  # fmt: skip
    add = pixels
    if isinstance(part.down, nn.Sequential):
        add = mix(pixels, [part.down[0]], [part.down[1]], training=training, relu=False)
    y = mix(y.view(-1, b * t * v), [part.post], [part.norm], training=training, add=add, recompute=True)
    if learned is not None:
        learned = learned.view(-1, b, v, v).transpose(0, 1)
    return y.view(-1, b, t, v), learned


def _time(part: TemporalConvolution, x: Tensor, add: Tensor | None, training: bool) -> Tensor:
    """The 1x1 convolutions of the six branches are one product; ``add`` (C, pixels) goes before the last ReLU."""
    c, b, t, v = x.shape
    *reducing, last = cast("list[nn.Sequential]", list(part.branches))
    convolutions = [*(branch[0] for branch in reducing), last]
    norms = [branch[1] for branch in reducing]
    y = mix(x.view(c, -1), convolutions, norms, training=training, joints=v, recompute=True)
    pooled = cast(nn.Conv2d, reducing[-1][0]).out_channels
    y = temporal(y, (b, t, v), [branch[3] for branch in reducing[:-1]], pooled, part.stride, training=training)
    y = combine(y, part.mean_joint[:v], part.transform[0], training=training)
    y = mix(y, [part.transform[2]], [part.norm], training=training, add=add)
    return y.view(c, b, -1, v)
