"""ProtoGCN: a graph network that learns its joints' topology from motion and rebuilds it from prototypes.

"Revealing Key Details to See Differences: A Novel Prototypical Perspective for Skeleton-based Action Recognition",
CVPR 2025, arXiv 2411.18941; the authors' code (firework8/ProtoGCN) is under the MIT licence. This is an independent
implementation, equal to theirs (``tests/recognition/test_protogcn_parity.py``). It runs on any device and on several
processes; ``fused.py`` computes the same faster on a CPU, ``export/protogcn.py`` is the form that is exported.

Shapes: N clips, M persons, B = N * M, T frames, V joints, C and D channels, K subsets of the graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewatch.recognition import distributed as parallel
from posewatch.recognition.models.base import Network, Output, mean_over_people

SUBSETS = 8
DILATIONS = (1, 2, 3, 4)
STAGES = (1, 1, 1, 1, 2, 2, 2, 4, 4, 4)
"""Width of each block in multiples of the first; a block that widens halves the frame rate, too."""


class GraphConvolution(nn.Module):
    """(B, C, T, V) → (B, D, T, V), over a topology of its own for each sample.

    The topology is a free matrix, plus how differently two joints move (per channel), plus how alike they are. The
    last two depend on the sample; their sum (B, D, V, V) is returned as well.
    """

    def __init__(self, channels: int, out: int, topology: Tensor) -> None:
        super().__init__()
        self.mid = max(1, out // SUBSETS)
        inner = self.mid * SUBSETS
        self.topology = nn.Parameter(topology.clone())
        # One scale is used; there are eight so that official checkpoints and optimiser states fit.
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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        b, _, t, v = x.shape
        q, k = self.motion(x)
        differ = torch.tanh(q.unsqueeze(-1) - k.unsqueeze(-2)) * self.alpha[0]
        alike = torch.softmax(q.transpose(-1, -2) @ k, -2) * self.beta[0]
        learned = differ + alike.unsqueeze(2)
        y = self.pre(x).view(b, SUBSETS, self.mid, t, v) @ (learned + self.topology.unsqueeze(1))
        y = self.norm(self.post(y.flatten(1, 2)))
        return F.relu(y + self.down(x)), learned.flatten(1, 2)

    def motion(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """How each joint moves: queries and keys (B, K, C, V), the means over time of two convolutions."""
        b, _, _, v = x.shape
        # The convolutions are linear and 1x1, so the mean may come first: T times less work.
        still = x.mean(2, keepdim=True)
        return self.query(still).view(b, SUBSETS, self.mid, v), self.key(still).view(b, SUBSETS, self.mid, v)


class TemporalConvolution(nn.Module):
    """(B, C, T, V) → (B, C, T / stride, V): six temporal branches; the mean joint's are added to every joint's."""

    def __init__(self, channels: int, joints: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        part = channels // (len(DILATIONS) + 2)
        first = channels - part * (len(DILATIONS) + 1)

        def reduce(width: int) -> list[nn.Module]:
            return [nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width), nn.ReLU()]

        self.branches = nn.ModuleList(
            nn.Sequential(*reduce(w), nn.Conv2d(w, w, (3, 1), (stride, 1), (d, 0), (d, 1)))
            for w, d in zip((first, part, part, part), DILATIONS, strict=True)
        )
        self.branches.append(nn.Sequential(*reduce(part), nn.MaxPool2d((3, 1), (stride, 1), (1, 0))))
        self.branches.append(nn.Conv2d(channels, part, 1, (stride, 1)))
        # The official code has 25 of them whatever the layout, of which the first V are used.
        self.mean_joint = nn.Parameter(torch.zeros(max(25, joints)))
        self.transform = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 1))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        v = x.shape[-1]
        x = torch.cat([x, x.mean(-1, keepdim=True)], -1)
        y = torch.cat([branch(x) for branch in self.branches], 1)
        y = y[..., :v] + y[..., v:] * self.mean_joint[:v]
        y = self.norm(self.transform(y))
        return y


class Block(nn.Module):
    """Graph, then time, then the residual: (B, C, T, V) → (B, D, T / stride, V), and what was learned of the graph."""

    def __init__(self, channels: int, out: int, topology: Tensor, stride: int, residual: bool) -> None:
        super().__init__()
        self.graph = GraphConvolution(channels, out, topology)
        self.time = TemporalConvolution(out, topology.shape[-1], stride)
        self.residual: nn.Sequential | None = None
        if residual and (channels != out or stride != 1):
            self.residual = nn.Sequential(nn.Conv2d(channels, out, 1, (stride, 1)), nn.BatchNorm2d(out))
        self.identity = residual and self.residual is None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, learned = self.graph(x)
        y = self.time(y)
        if self.residual is not None:
            y = y + self.residual(x)
        elif self.identity:
            y = y + x
        return F.relu(y), learned


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
        tokens = graph.flatten(2).transpose(1, 2)
        rebuilt = self.memory(torch.softmax(self.query(tokens), -1))
        rebuilt = parallel.dropout(rebuilt, self.dropout, self.training)
        rebuilt = F.relu(self.norm(self.post(rebuilt.transpose(1, 2).reshape(graph.shape))))
        return rebuilt.mean(1).flatten(1)


class ClassContrast(nn.Module):
    """Class-specific contrastive loss: a clip's graph lies near its class's running mean and far from the others'.

    In distributed training the mean is taken over the batches of all processes, so that all have the same memory.
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
        momentum = torch.where(count > 0, self.momentum, 1.0)
        # The loss sees the moved memory, with a gradient into this batch's part of it.
        memory = self.memory * momentum + mean * (1 - momentum)
        if self.training:
            self.memory.copy_(memory.detach())
        near = F.normalize(f, dim=1) @ F.normalize(memory, dim=0)
        return F.cross_entropy(near / self.temperature, labels)


class ProtoGCN(Network):
    """Features (N, M, T, V, C) → ``Output``. The paper's width is 96, with 400 prototypes for the joint stream.

    With ``present`` (N, M) absent persons are left out of the mean over persons; the official code counts them.
    """

    def __init__(self, joints: int, classes: int, width: int = 96, prototypes: int = 400, in_channels: int = 3) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm1d(joints * in_channels)
        topology = torch.randn(SUBSETS, joints, joints) * 0.02 + 0.04
        blocks, channels = [], in_channels
        for i, multiple in enumerate(STAGES):
            stride = 2 if i and multiple != STAGES[i - 1] else 1
            blocks.append(Block(channels, width * multiple, topology, stride, residual=i > 0))
            channels = width * multiple
        self.blocks = nn.ModuleList(blocks)
        self.classify = nn.Linear(channels, classes)
        self.prototypes: Prototypes | None = Prototypes(blocks[-1].graph.mid * SUBSETS, prototypes)
        self.contrast: ClassContrast | None = ClassContrast(joints * joints, classes)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Output:
        n, m = x.shape[:2]
        persons = self.persons(x, present)
        b, t, v, c = persons.rows.shape
        x = self.input_norm(persons.rows.permute(0, 2, 3, 1).reshape(b, v * c, t))
        x, learned = self.backbone(x.view(b, v, c, t).permute(0, 2, 3, 1))
        embedding = mean_over_people(persons.by_clip(x.mean((2, 3))), present)
        reconstruction = None
        if self.training and self.prototypes is not None and learned is not None:
            graphs = persons.by_clip(learned.flatten(1)).view(n, m, -1, v, v)
            reconstruction = self.prototypes(mean_over_people(graphs, present))
        return Output(self.classify(embedding), embedding, reconstruction)

    def backbone(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, C, T, V) → (B, D, T', V), and what the last block learned of the graph, (B, D, V, V)."""
        x = x.contiguous()
        learned = None
        for block in self.blocks:
            x, learned = block(x)
        return x, learned

    def maps(self, rows: Tensor) -> Tensor:
        b, t, v, c = rows.shape
        x = self.input_norm(rows.permute(0, 2, 3, 1).reshape(b, v * c, t))
        return self.backbone(x.view(b, v, c, t).permute(0, 2, 3, 1))[0]

    def auxiliary_loss(self, output: Output, labels: Tensor) -> Tensor:
        if self.contrast is None or output.reconstruction is None:
            return output.logits.new_zeros(())
        return self.contrast(output.reconstruction, output.logits.detach(), labels)

    def trim(self) -> None:
        self.prototypes = self.contrast = None
