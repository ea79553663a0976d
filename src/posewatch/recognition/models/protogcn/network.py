"""ProtoGCN: a graph network that learns its joints' topology from motion and rebuilds it from prototypes.

"Revealing Key Details to See Differences: A Novel Prototypical Perspective for Skeleton-based Action Recognition",
CVPR 2025, arXiv 2411.18941; the authors' code (firework8/ProtoGCN) is under the MIT licence. This is an independent
implementation, equal to theirs (``tests/recognition/test_protogcn_parity.py``). Shapes: N clips, M persons, T frames,
V joints, C channels, K subsets of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from posewatch.errors import InputError
from posewatch.recognition import distributed as parallel
from posewatch.recognition.models.base import Network, Output, mean_over_people
from posewatch.recognition.models.protogcn import official_names as names
from posewatch.recognition.models.protogcn.fused_ops import combine, frozen, mix, topology
from posewatch.recognition.models.protogcn.inference import InferenceProtoGCN
from posewatch.recognition.models.protogcn.temporal import temporal

SUBSETS = 8
DILATIONS = (1, 2, 3, 4)
STAGES = (1, 1, 1, 1, 2, 2, 2, 4, 4, 4)
"""Width of each block in multiples of the first; a block that widens halves the frame rate, too."""


class GraphConvolution(nn.Module):
    """(C, B, T, V) → (D, B, T, V), over a topology made for each sample.

    The topology is a free matrix, plus how differently two joints move (per channel), plus how alike they are. What is
    learned of it, (B, D, V, V), is returned as well where ``reports`` is set, else None.
    """

    def __init__(self, channels: int, out: int, topology: Tensor) -> None:
        super().__init__()
        self.reports = False
        self.mid = max(1, out // SUBSETS)
        inner = self.mid * SUBSETS
        self.topology = nn.Parameter(topology.clone())
        # One scale is used; eight are kept so that official checkpoints and optimiser states fit.
        self.alpha = nn.Parameter(torch.zeros(SUBSETS))
        self.beta = nn.Parameter(torch.zeros(SUBSETS))
        self.pre = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU())
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.post = nn.Conv2d(inner, out, 1)
        self.norm = nn.BatchNorm2d(out)
        self.down = (
            nn.Identity() if channels == out else nn.Sequential(nn.Conv2d(channels, out, 1), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        c, b, t, v = x.shape
        # The convolutions are linear and 1x1, so the mean over time may come first: T times less work.
        still = x.mean(2).view(c, -1)
        weight = torch.cat([self.query.weight, self.key.weight]).flatten(1)
        bias = torch.cat([cast(Tensor, self.query.bias), cast(Tensor, self.key.bias)])
        q, k = torch.addmm(bias[:, None], weight, still).view(2, SUBSETS, self.mid, b, v)
        pixels = x.view(c, -1)
        y = mix(pixels, [self.pre[0]], [self.pre[1]], training=self.training, again=True).view(
            SUBSETS, self.mid, b, t, v
        )
        y, learned = topology(
            y, q, k, self.topology, self.alpha[0], self.beta[0], training=self.training, learned=self.reports
        )
        add = pixels
        if isinstance(self.down, nn.Sequential):
            add = mix(pixels, [self.down[0]], [self.down[1]], training=self.training, relu=False)
        y = mix(y.view(-1, b * t * v), [self.post], [self.norm], training=self.training, add=add, again=True)
        if learned is not None:
            learned = learned.view(-1, b, v, v).transpose(0, 1)
        return y.view(-1, b, t, v), learned


class TemporalConvolution(nn.Module):
    """(C, B, T, V) → (C, B, T / stride, V): six views of time, with the mean joint shown to every joint."""

    def __init__(self, channels: int, joints: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        count = len(DILATIONS) + 2
        part = channels // count
        first = channels - part * (count - 1)

        widths = (first, part, part, part)

        def reduce(width: int) -> list[nn.Module]:
            return [nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width), nn.ReLU()]

        self.branches = nn.ModuleList(
            nn.Sequential(*reduce(w), nn.Conv2d(w, w, (3, 1), (stride, 1), (d, 0), (d, 1)))
            for w, d in zip(widths, DILATIONS, strict=True)
        )
        self.branches.append(nn.Sequential(*reduce(part), nn.MaxPool2d((3, 1), (stride, 1), (1, 0))))
        self.branches.append(nn.Conv2d(channels, part, 1, (stride, 1)))
        # The official code has 25 of them whatever the layout, of which the first V are used.
        self.mean_joint = nn.Parameter(torch.zeros(max(25, joints)))
        self.transform = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 1))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """``add`` (C, pixels) is added to the result before the last ReLU."""
        c, b, t, v = x.shape
        branches = cast("list[nn.Sequential]", list(self.branches))
        reduce = [*(branch[0] for branch in branches[:-1]), self.branches[-1]]
        norms = [branch[1] for branch in branches[:-1]]
        y = mix(x.view(c, -1), reduce, norms, training=self.training, joints=v, again=True)
        pooled = cast(nn.Conv2d, reduce[-2]).out_channels
        y = temporal(y, (b, t, v), [branch[3] for branch in branches[:-2]], pooled, self.stride, training=self.training)
        y = combine(y, self.mean_joint[:v], self.transform[0], training=self.training)
        y = mix(y, [self.transform[2]], [self.norm], training=self.training, add=add)
        return y.view(c, b, -1, v)


class Block(nn.Module):
    """Graph, then time, then the residual: (B, C, T, V) → (B, D, T / stride, V), and the graph if it is the last block.

    In memory, the channels come first everywhere: what goes in and out is a transposed view.
    """

    def __init__(self, channels: int, out: int, topology: Tensor, stride: int, residual: bool) -> None:
        super().__init__()
        self.graph = GraphConvolution(channels, out, topology)
        self.time = TemporalConvolution(out, topology.shape[-1], stride)
        self.residual: nn.Sequential | None = None
        if residual and (channels != out or stride != 1):
            self.residual = nn.Sequential(nn.Conv2d(channels, out, 1, (stride, 1)), nn.BatchNorm2d(out))
        self.identity = residual and self.residual is None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        x = x.transpose(0, 1)  # channels first: how it lies in memory already
        add = None
        if self.residual is not None:
            strided = x[:, :, :: self.time.stride].flatten(1)
            add = mix(strided, [self.residual[0]], [self.residual[1]], training=self.training, relu=False)
        elif self.identity:
            add = x.flatten(1)
        y, learned = self.graph(x)
        return self.time(y, add).transpose(0, 1), learned


class Prototypes(nn.Module):
    """Rebuild a learned graph (N, D, V, V) from P prototypes; (N, V * V). A branch that only training needs."""

    def __init__(self, channels: int, prototypes: int) -> None:
        super().__init__()
        self.query = nn.Linear(channels, prototypes, bias=False)
        self.memory = nn.Linear(prototypes, channels, bias=False)
        self.dropout = 0.1
        self.post = nn.Conv2d(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, graph: Tensor) -> Tensor:
        n, d, v, _ = graph.shape
        tokens = graph.flatten(2).transpose(0, 1).reshape(d, n * v * v)
        scores = torch.softmax(tokens.t() @ self.query.weight.t(), -1)
        rebuilt = (self.memory.weight @ scores.t()).view(d, n, v * v)
        rebuilt = parallel.dropout(rebuilt.transpose(0, 1), self.dropout, self.training).transpose(0, 1)
        rebuilt = mix(rebuilt.reshape(d, -1), [self.post], [self.norm], training=self.training)
        return rebuilt.mean(0).view(n, v * v)


class ClassContrast(nn.Module):
    """Class-specific contrastive loss: a clip's graph lies near its class's running mean and far from the others'.

    In distributed training the mean is taken over the batches of all processes, so that all keep the same memory.
    """

    memory: Tensor

    def __init__(
        self, inputs: int, classes: int, hidden: int = 256, momentum: float = 0.9, temperature: float = 0.125
    ) -> None:
        super().__init__()
        self.momentum, self.temperature = momentum, temperature
        self.project = nn.Linear(inputs, hidden)
        self.register_buffer("memory", torch.randn(hidden, classes))

    def forward(self, reconstruction: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """(N, V * V), (N, K), int64 (N,) → a scalar. In training, true positives move their class's memory."""
        f = self.project(reconstruction)
        classes = self.memory.shape[1]
        right = F.one_hot(labels, classes).to(f.dtype) * (logits.argmax(1) == labels).to(f.dtype)[:, None]
        total = parallel.all_reduce(torch.cat([f.T @ right, right.sum(0, keepdim=True)]))
        count = total[-1]
        mean = total[:-1] / (count + 1e-12)
        keep = torch.where(count > 0, self.momentum, 1.0)
        # The loss sees the moved memory, with a gradient into this batch's part of it.
        memory = self.memory * keep + mean * (1 - keep)
        if self.training:
            self.memory.copy_(memory.detach())
        near = F.normalize(f, dim=1) @ F.normalize(memory, dim=0)
        return F.cross_entropy(near / self.temperature, labels)


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the first time and for the second one, which must leave the batch norms' running statistics alone."""
    return nullcontext(), frozen()


class ProtoGCN(Network):
    """Features (N, M, T, V, C) → ``Output``. The paper's width is 96, with 400 prototypes for the joint stream.

    With ``present`` (N, M) empty persons are left out of the mean over persons; the official code leaves them in.
    With ``recompute``, training keeps only what goes from block to block and computes the rest again for the
    gradients: a fraction of the memory for a third more time, with equal results.
    """

    recompute = False

    def __init__(self, joints: int, classes: int, width: int = 96, prototypes: int = 400, in_channels: int = 3) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm1d(joints * in_channels)
        topology = torch.randn(SUBSETS, joints, joints) * 0.02 + 0.04
        blocks, channels = [], in_channels
        for i, multiple in enumerate(STAGES):
            stride = 2 if i and multiple != STAGES[i - 1] else 1
            blocks.append(Block(channels, width * multiple, topology, stride, residual=i > 0))
            channels = width * multiple
        blocks[-1].graph.reports = True
        self.blocks = nn.ModuleList(blocks)
        self.classify = nn.Linear(channels, classes)
        self.prototypes: Prototypes | None = Prototypes(blocks[-1].graph.mid * SUBSETS, prototypes)
        self.contrast: ClassContrast | None = ClassContrast(joints * joints, classes)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Output:
        n, m, t, v, c = x.shape
        x = self.input_norm(x.permute(0, 1, 3, 4, 2).reshape(n * m, v * c, t))
        x = x.view(n * m, v, c, t).permute(2, 0, 3, 1).contiguous().transpose(0, 1)
        learned = None
        for block in self.blocks:
            if self.recompute and self.training and torch.is_grad_enabled():
                x, learned = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False, context_fn=_contexts)
            else:
                x, learned = block(x)
        embedding = mean_over_people(x.mean((2, 3)).view(n, m, -1), present)
        reconstruction = None
        if self.training and self.prototypes is not None and learned is not None:
            reconstruction = self.reconstruct(learned.view(n, m, *learned.shape[1:]), present)
        return Output(self.classify(embedding), embedding, reconstruction)

    def reconstruct(self, learned: Tensor, present: Tensor | None = None) -> Tensor:
        """The last block's graphs (N, M, D, V, V), rebuilt from the prototypes: (N, V * V)."""
        if self.prototypes is None:
            raise InputError("this network was trimmed: its prototypes are gone (load the checkpoint again)")
        return self.prototypes(mean_over_people(learned, present))

    def auxiliary_loss(self, output: Output, labels: Tensor) -> Tensor:
        if self.contrast is None or output.reconstruction is None:
            return output.logits.new_zeros(())
        return self.contrast(output.reconstruction, output.logits.detach(), labels)

    def trim(self) -> None:
        self.prototypes = self.contrast = None

    def for_inference(self) -> Network:
        return InferenceProtoGCN(self).train(self.training)


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a ``ProtoGCN`` under the official names: the inverse of ``from_official``.

    The class memory is left out, as official checkpoints do not hold it.
    """
    return {names.theirs(name): value for name, value in state.items() if name != "contrast.memory"}


def from_official(source: Mapping[str, Any] | Path | str) -> ProtoGCN:
    """A network with the weights of an official checkpoint: a file, what it holds, or a state dict. Raises InputError.

    All sizes follow from the weights. Files are read without running code from them. Official checkpoints do not hold
    the class memory; it starts at random, as theirs does when a run is resumed.
    """
    if isinstance(source, Path | str):
        try:
            source = cast("Mapping[str, Any]", torch.load(source, map_location="cpu", weights_only=True))
        except FileNotFoundError:
            raise InputError(f"no such checkpoint: {source}") from None
        except Exception:
            raise InputError(f"{source} is not a checkpoint of weights alone (save its state_dict again)") from None
    if isinstance(source, Mapping):
        source = source.get("state_dict", source)
    if not isinstance(source, Mapping):
        raise InputError(f"not an official ProtoGCN checkpoint: it holds a {type(source).__name__}, no weights by name")
    # What was wrapped for several GPUs when it was saved says so in each name.
    state = {str(name).removeprefix("module."): value for name, value in source.items()}
    try:
        width = state["backbone.gcn.0.gcn.post.weight"].shape[0]
        in_channels = state["backbone.gcn.0.gcn.pre.0.weight"].shape[1]
        joints = state["backbone.gcn.0.gcn.A"].shape[-1]
        classes = state["cls_head.fc_cls.weight"].shape[0]
        prototypes = state["backbone.prn.query_matrix.weight"].shape[0]
    except KeyError as error:
        raise InputError(f"not an official ProtoGCN checkpoint: it has no {error.args[0]!r}") from None
    network = ProtoGCN(joints, classes, width, prototypes, in_channels)
    ours = {names.ours(name): value for name, value in state.items()}
    try:
        missing, unexpected = network.load_state_dict(ours, strict=False)
    except RuntimeError as error:
        raise InputError(f"not an official ProtoGCN checkpoint: {str(error).splitlines()[-1].strip()}") from None
    wrong = [name for name in (*missing, *unexpected) if name != "contrast.memory"]
    if wrong:
        raise InputError(f"not an official ProtoGCN checkpoint of this shape: {wrong[0]!r} does not fit")
    return network
