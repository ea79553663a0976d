"""ProtoGCN: a graph network that learns its joints' topology from motion and rebuilds it from prototypes.

"Revealing Key Details to See Differences: A Novel Prototypical Perspective for Skeleton-based Action Recognition",
CVPR 2025, arXiv 2411.18941; the authors' code (firework8/ProtoGCN) is under the MIT licence. This is an independent
implementation, equal to theirs (``tests/recognition/test_protogcn_parity.py``). Shapes: N clips, M persons, T frames,
V joints, C channels, K subsets of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewatch.errors import InputError
from posewatch.recognition.models.base import Network, Output, mean_over_people

SUBSETS = 8
DILATIONS = (1, 2, 3, 4)
STAGES = (1, 1, 1, 1, 2, 2, 2, 4, 4, 4)
"""Width of each block in multiples of the first; a block that widens halves the frame rate, too."""


class GraphConvolution(nn.Module):
    """(B, C, T, V) → (B, D, T, V) and the learned graph (B, D, V, V), over a topology made for each sample.

    The topology is a free matrix, plus how differently two joints move (per channel), plus how alike they are.
    """

    def __init__(self, channels: int, out: int, topology: Tensor) -> None:
        super().__init__()
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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        b, _, t, v = x.shape
        # The convolutions are linear and 1x1, so the mean over time may come first: T times less work.
        still = x.mean(2, keepdim=True)
        q = self.query(still).view(b, SUBSETS, self.mid, v)
        k = self.key(still).view(b, SUBSETS, self.mid, v)
        inter = torch.tanh(q.unsqueeze(-1) - k.unsqueeze(-2)) * self.alpha[0]
        intra = torch.softmax(q.transpose(-1, -2) @ k, dim=-2) * self.beta[0]
        learned = inter + intra.unsqueeze(2)
        graph = learned + self.topology[:, None]
        y = self.pre(x).view(b, SUBSETS, self.mid, t, v) @ graph
        y = self.norm(self.post(y.view(b, -1, t, v)))
        return F.relu(y + self.down(x)), learned.reshape(b, -1, v, v)


class TemporalConvolution(nn.Module):
    """(B, C, T, V) → (B, C, T / stride, V): six views of time, with the mean joint shown to every joint."""

    def __init__(self, channels: int, joints: int, stride: int) -> None:
        super().__init__()
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

    def forward(self, x: Tensor) -> Tensor:
        v = x.shape[-1]
        x = torch.cat([x, x.mean(-1, keepdim=True)], -1)
        y = torch.cat([branch(x) for branch in self.branches], 1)
        y = y[..., :v] + y[..., v:] * self.mean_joint[:v]
        return self.norm(self.transform(y))


class Block(nn.Module):
    """Graph, then time, then the residual."""

    def __init__(self, channels: int, out: int, topology: Tensor, stride: int, residual: bool) -> None:
        super().__init__()
        self.graph = GraphConvolution(channels, out, topology)
        self.time = TemporalConvolution(out, topology.shape[-1], stride)
        self.residual: nn.Module | None = None
        if residual and (channels != out or stride != 1):
            self.residual = nn.Sequential(nn.Conv2d(channels, out, 1, (stride, 1)), nn.BatchNorm2d(out))
        self.identity = residual and self.residual is None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, learned = self.graph(x)
        y = self.time(y)
        if self.identity:
            y = y + x
        elif self.residual is not None:
            y = y + self.residual(x)
        return F.relu(y), learned


class Prototypes(nn.Module):
    """Rebuild a learned graph (N, D, V, V) from P prototypes; (N, V * V). A branch that only training needs."""

    def __init__(self, channels: int, prototypes: int) -> None:
        super().__init__()
        self.query = nn.Linear(channels, prototypes, bias=False)
        self.memory = nn.Linear(prototypes, channels, bias=False)
        self.dropout = nn.Dropout(0.1)
        self.post = nn.Conv2d(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, graph: Tensor) -> Tensor:
        n, d, v, _ = graph.shape
        tokens = graph.view(n, d, v * v).transpose(1, 2)
        rebuilt = self.dropout(self.memory(torch.softmax(self.query(tokens), -1)))
        rebuilt = self.post(rebuilt.transpose(1, 2).reshape(n, d, v, v))
        return F.relu(self.norm(rebuilt)).mean(1).view(n, v * v)


class ClassContrast(nn.Module):
    """Class-specific contrastive loss: a clip's graph lies near its class's running mean and far from the others'."""

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
        count = right.sum(0)
        mean = (f.T @ right) / (count + 1e-12)
        keep = torch.where(count > 0, self.momentum, 1.0)
        # The loss sees the moved memory, with a gradient into this batch's part of it.
        memory = self.memory * keep + mean * (1 - keep)
        if self.training:
            self.memory.copy_(memory.detach())
        near = F.normalize(f, dim=1) @ F.normalize(memory, dim=0)
        return F.cross_entropy(near / self.temperature, labels)


class ProtoGCN(Network):
    """Features (N, M, T, V, C) → ``Output``. The paper's width is 96, with 400 prototypes for the joint stream.

    With ``present`` (N, M) empty persons are left out of the mean over persons; the official code leaves them in.
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
        n, m, t, v, c = x.shape
        x = self.input_norm(x.permute(0, 1, 3, 4, 2).reshape(n * m, v * c, t))
        x = x.view(n * m, v, c, t).permute(0, 2, 3, 1).contiguous()
        learned = x
        for block in self.blocks:
            x, learned = block(x)
        embedding = mean_over_people(x.mean((2, 3)).view(n, m, -1), present)
        reconstruction = None
        if self.training and self.prototypes is not None:
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


_RENAME = (
    ("backbone.data_bn.", "input_norm."),
    ("backbone.post.", "prototypes.post."),
    ("backbone.bn.", "prototypes.norm."),
    ("backbone.prn.query_matrix.", "prototypes.query."),
    ("backbone.prn.memory_matrix.", "prototypes.memory."),
    ("cls_head.fc_cls.", "classify."),
    ("cls_head.csc_loss.cl_fc.", "contrast.project."),
    ("backbone.gcn.", "blocks."),
    (".gcn.", ".graph."),
    (".tcn.", ".time."),
    (".graph.A", ".graph.topology"),
    (".conv1.", ".query."),
    (".conv2.", ".key."),
    (".time.add_coeff", ".time.mean_joint"),
    (".3.conv.", ".3."),
    (".residual.conv.", ".residual.0."),
    (".residual.bn.", ".residual.1."),
    (".bn.", ".norm."),
)


def official_name(name: str) -> str:
    """Our name of a parameter of the official implementation."""
    for theirs, ours in _RENAME:
        name = name.replace(theirs, ours)
    return name


def from_official(state: Mapping[str, Tensor]) -> ProtoGCN:
    """A network with the weights of an official checkpoint; sizes follow from the weights. Raises InputError.

    Official checkpoints do not hold the class memory; it starts at random, as theirs does when a run is resumed.
    """
    try:
        width, in_channels = state["backbone.gcn.0.gcn.pre.0.weight"].shape[:2]
        joints = state["backbone.gcn.0.gcn.A"].shape[-1]
        classes = state["cls_head.fc_cls.weight"].shape[0]
        prototypes = state["backbone.prn.query_matrix.weight"].shape[0]
    except KeyError as error:
        raise InputError(f"not an official ProtoGCN checkpoint: it has no {error.args[0]!r}") from None
    network = ProtoGCN(joints, classes, width, prototypes, in_channels)
    ours = {official_name(name): value for name, value in state.items()}
    missing, unexpected = network.load_state_dict(ours, strict=False)
    wrong = [name for name in (*missing, *unexpected) if name != "contrast.memory"]
    if wrong:
        raise InputError(f"not an official ProtoGCN checkpoint of this shape: {wrong[0]!r} does not fit")
    return network
