"""ProtoGCN with its operations in the published order (arXiv 2411.18941): what benchmarks compare with."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewatch.recognition.models.base import Output, mean_over_people
from posewatch.recognition.models.protogcn.network import SUBSETS, GraphConvolution, ProtoGCN, TemporalConvolution

if TYPE_CHECKING:
    from posewatch.recognition.recogniser import Recogniser


class Published(ProtoGCN):
    """Parameters, state dict and results are those of ``ProtoGCN``.

    Queries and keys are convolved over all frames and averaged then, every term of the topology is materialised, each
    of the six temporal branches is computed by itself on activations to which the mean joint was appended.
    """

    def forward(self, x: Tensor, present: Tensor | None = None) -> Output:
        n, m, t, v, c = x.shape
        x = x.permute(0, 1, 3, 4, 2).contiguous().view(n * m, v * c, t)
        x = self.input_norm(x).view(n, m, v, c, t).permute(0, 1, 3, 4, 2).contiguous().view(n * m, c, t, v)
        learned = x
        for block in cast(Any, self.blocks):
            rest: Tensor | int = 0
            if block.residual is not None:
                rest = block.residual(x)
            elif block.identity:
                rest = x
            y, learned = _graph(block.graph, x)
            x = F.relu(_time(block.time, y) + rest)
        embedding = mean_over_people(x.mean((2, 3)).view(n, m, -1), present)
        reconstruction = None
        if self.training and self.prototypes is not None:
            graph = mean_over_people(learned.reshape(n, m, -1, v, v), present)
            reconstruction = self._rebuilt(graph)
        return Output(self.classify(embedding), embedding, reconstruction)

    def _rebuilt(self, graph: Tensor) -> Tensor:
        part = cast(Any, self.prototypes)
        n, d, v, _ = graph.shape
        tokens = graph.view(n, d, v * v).transpose(1, 2)
        made = torch.stack([part.memory(torch.softmax(part.query(token), -1)) for token in tokens])
        made = F.dropout(made, part.dropout, self.training).transpose(1, 2).reshape(n, d, v, v)
        return F.relu(part.norm(part.post(made))).mean(1).view(n, v * v)


def _graph(part: GraphConvolution, x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, T, V) → (B, D, T, V) and the learned graph (B, K, D / K, V, V)."""
    b, _, t, v = x.shape
    y = part.pre(x).reshape(b, SUBSETS, part.mid, t, v)
    q = part.query(x).reshape(b, SUBSETS, part.mid, t, v).mean(-2)
    k = part.key(x).reshape(b, SUBSETS, part.mid, t, v).mean(-2)
    inter = torch.tanh(q.unsqueeze(-1) - k.unsqueeze(-2)) * part.alpha[0]
    intra = torch.softmax(torch.einsum("nkcv,nkcw->nkvw", q, k), -2)[:, :, None] * part.beta[0]
    graph = part.topology[None, :, None] + inter
    graph = graph + intra
    y = torch.einsum("nkctv,nkcvw->nkctw", y, graph).contiguous().view(b, -1, t, v)
    return F.relu(part.norm(part.post(y)) + part.down(x)), inter + intra


def _time(part: TemporalConvolution, x: Tensor) -> Tensor:
    v = x.shape[-1]
    x = torch.cat([x, x.mean(-1, keepdim=True)], -1)
    y = torch.cat([branch(x) for branch in part.branches], 1)
    local, middle = y[..., :v], y[..., v]
    spread = torch.einsum("nct,v->nctv", middle, part.mean_joint[:v])
    return cast(Tensor, part.norm(part.transform(local + spread)))


def published(recogniser: Recogniser) -> Recogniser | None:
    """The same recogniser, its ProtoGCNs in their published order; None where no network of it is one.

    The weights are shared.
    """
    if not any(isinstance(network, ProtoGCN) for network in recogniser.networks):
        return None
    made = copy.copy(recogniser)
    made._modules = dict(recogniser._modules)
    made.networks = nn.ModuleList(_published(network) for network in recogniser.networks)
    return made


def _published(network: nn.Module) -> nn.Module:
    if not isinstance(network, ProtoGCN):
        return network
    made = Published.__new__(Published)
    made.__dict__.update(network.__dict__)
    return made
