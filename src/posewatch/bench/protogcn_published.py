"""A recogniser whose ProtoGCNs run as ``network.py`` has them: what benchmarks compare the fused form with."""

from __future__ import annotations

import copy

from posewatch.recognition.models.protogcn.fused import FusedProtoGCN
from posewatch.recognition.models.protogcn.network import ProtoGCN
from posewatch.recognition.recogniser import Recogniser


def published(recogniser: Recogniser) -> Recogniser | None:
    """A copy whose ProtoGCNs are not fused; None where it has none."""
    if not any(isinstance(network, FusedProtoGCN) for network in recogniser.networks):
        return None
    plain = copy.deepcopy(recogniser)
    for network in plain.networks:
        if isinstance(network, FusedProtoGCN):
            network.__class__ = ProtoGCN  # type: ignore[assignment]  # its base class
    return plain
