"""How large the networks are: parameters, and multiply-accumulates of one clip.

``posewatch bench model-sizes`` prints the table of docs/models.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from posewatch.bench.protogcn_published import publish
from posewatch.datasets import layouts
from posewatch.datasets.layouts import OF_PERSON, Layout
from posewatch.recognition.models import NETWORKS, build, ctrgcn, stgcn
from posewatch.recognition.models.base import Network
from posewatch.recognition.models.protogcn.network import ProtoGCN
from posewatch.recognition.recogniser import FLOW_MODEL

CLASSES, PEOPLE, FRAMES = 2, 2, 100
"""What the table is counted for."""


@dataclass(frozen=True)
class Size:
    """``parameters``, those of them that serving needs, and multiply-accumulates of a clip in eval mode.

    ``published_macs`` is what the same clip costs in the order of operations of the published code. They count as
    convolutions and matrix products; norms, activations and sums are left out, as they are in the papers.
    """

    parameters: int
    serving_parameters: int
    macs: int
    published_macs: int


def measure(network: Network, joints: int, people: int = PEOPLE, frames: int = FRAMES, in_channels: int = 3) -> Size:
    """The size of ``network`` for one clip of ``people`` persons and ``frames`` frames; it is trimmed afterwards."""
    parameters = sum(p.numel() for p in network.parameters())
    saved = 0
    if isinstance(network, ProtoGCN) and network.prototypes is not None:
        # The published code rebuilds the graph in inference, too: three 1x1 convolutions of V * V tokens.
        saved += joints**2 * sum(p.numel() for p in network.prototypes.parameters() if p.dim() > 1)
    network.eval().trim()
    x = torch.zeros(1, people, frames, joints, in_channels)
    macs = _macs(network, x)
    if isinstance(network, ProtoGCN):
        publish(network)

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        nonlocal saved
        saved += _saved(module, inputs[0])

    for module in network.modules():
        module.register_forward_hook(count)
    published = _macs(network, x)
    return Size(parameters, sum(p.numel() for p in network.parameters()), macs, published + saved)


def _macs(network: Network, x: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x)
    return counter.get_total_flops() // 2


def _saved(module: nn.Module, x: Tensor) -> int:
    """Multiply-accumulates that the published code spends beyond those of ``module`` on ``x`` (B, C, T, V)."""
    b, c, t, v = x.shape if x.dim() == 4 else (0, 0, 0, 0)
    if isinstance(module, stgcn.SubsetConvolution):
        # The graph on the channels that go in, not on those that come out.
        return b * t * v * v * (module.convolve.out_channels - c * module.subsets)
    if isinstance(module, ctrgcn.GraphConvolution):
        # Queries and keys of the mean frame, not the mean of the queries and keys of all frames.
        return b * c * (t - 1) * v * (module.query.out_channels + module.key.out_channels)
    return 0


def table(layout: Layout | None = None) -> list[str]:
    """Lines of Markdown: each model at its published width."""
    layout = layout or layouts.get("coco17")
    lines = [
        "| model | parameters | without training-only parts | GMACs | GMACs as published |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in NETWORKS:
        columns = OF_PERSON if name == FLOW_MODEL else len(layout.joints)
        size = measure(build(name, layout=layout.with_flow(), classes=CLASSES), columns)
        lines.append(
            f"| {name} | {size.parameters:,} | {size.serving_parameters:,} "
            f"| {size.macs / 1e9:.2f} | {size.published_macs / 1e9:.2f} |"
        )
    return lines
