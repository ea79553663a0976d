"""ProtoGCN with its operations in the published order (arXiv 2411.18941): what benchmarks compare with."""

from __future__ import annotations

import copy

from torch import Tensor

from posewatch.recognition.models.protogcn.network import SUBSETS, GraphConvolution, ProtoGCN
from posewatch.recognition.recogniser import Recogniser


class _GraphConvolution(GraphConvolution):
    def motion(self, x: Tensor) -> tuple[Tensor, Tensor]:
        b, _, t, v = x.shape
        q, k = (part(x).view(b, SUBSETS, self.mid, t, v).mean(3) for part in (self.query, self.key))
        return q, k


def publish(network: ProtoGCN) -> ProtoGCN:
    """Turn ``network`` into the published form, with the same parameters and results; returns it."""
    network.__class__ = ProtoGCN
    network.skip_absent = False
    for module in network.modules():
        if isinstance(module, GraphConvolution):
            module.__class__ = _GraphConvolution
    return network


def published(recogniser: Recogniser) -> Recogniser | None:
    """A copy whose ProtoGCNs have the published form; None where it has no ProtoGCN."""
    copied = copy.deepcopy(recogniser)
    parts = [publish(network) for network in copied.networks if isinstance(network, ProtoGCN)]
    return copied if parts else None
