"""Training from the weights of another checkpoint: what fits is taken, joints and classes by name; the rest is fresh.

A tensor's axes that grow with the number of joints are found by building the network for other numbers of joints, so
that this holds for every network of the zoo.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from posewatch.config import TrainConfig
from posewatch.datasets.annotations import count, some
from posewatch.datasets.layouts import Layout
from posewatch.errors import ConfigError
from posewatch.recognition.features import Features
from posewatch.recognition.imported import any_checkpoint
from posewatch.recognition.models import build
from posewatch.recognition.recogniser import Branch, Recogniser

PROBES = (140, 141)
"""Numbers of joints, larger than those of any layout, whose networks show which axes grow with the joints."""
LEAST = 0.5
"""Share of the weights below which nothing useful was taken."""


@dataclass(frozen=True)
class Taken:
    """``share`` of the weights that were taken over, and lines for the user on what was and what was not."""

    share: float
    lines: tuple[str, ...]


class Pretrained:
    """The checkpoint of ours, or of the official code, that a training begins with. Raises InputError.

    ``name`` is what messages call it.
    """

    def __init__(self, path: Path | str, name: str = "") -> None:
        self.path = name or str(path)
        self.source, self.notes = any_checkpoint(path)
        self.digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()

    def plan(self, config: TrainConfig, layout: Layout, classes: tuple[str, ...]) -> Taken:
        """What a training with this configuration would take, before it begins. Raises ConfigError."""
        with torch.random.fork_rng(devices=[]):
            return self.into(Recogniser(config, layout, classes, "", 1.0))

    @torch.no_grad()
    def into(self, target: Recogniser) -> Taken:
        """Copy what fits into ``target``. Raises ConfigError when a network is another one, or nearly nothing fits."""
        total = taken = 0
        fresh: list[str] = []
        lines = []
        streams = target.config.stream.count(",") + 1
        for i, (network, branch) in enumerate(zip(target.networks, target.branches, strict=True)):
            if i >= streams and branch.model not in {b.model for b in self.source.branches}:
                lines.append(f"{branch.model} of train.beside starts afresh: the checkpoint has none")
                continue
            other, origin = self._like(branch)
            if origin.stream != branch.stream:
                lines.append(f"weights for the stream {origin.stream} begin the one of {branch.stream}")
            axes = _axes(branch, target)
            theirs = other.state_dict()
            for name, mine in network.state_dict().items():
                n = mine.numel()
                total += n
                copied = self._copy(name, mine, theirs.get(name), axes.get(name, ()), target) if n else 0
                taken += copied
                if copied < n:
                    fresh.append(name if not copied else f"{name} (in part)")
        share = taken / max(1, total)
        if share < LEAST:
            first = self.source.branches[0]
            raise ConfigError(
                f"{self.path} fits the configured network in {share:.0%} of its weights only: train.model and "
                f"train.width must be those of the checkpoint ({first.model}, {first.width:g})"
            )
        lines.insert(0, f"{share:.1%} of the weights are those of {self.path}")
        if fresh:
            lines.append(f"not taken, so that they start afresh: {some(_short(fresh), 8)}")
        return Taken(share, (*lines, *self._differences(target)))

    def _like(self, branch: Branch) -> tuple[nn.Module, Branch]:
        """The network of the checkpoint that begins ``branch``: of the same model, and if possible the same stream."""
        pairs = [p for p in zip(self.source.networks, self.source.branches, strict=True) if p[1].model == branch.model]
        if not pairs:
            models = ", ".join(sorted({b.model for b in self.source.branches}))
            raise ConfigError(f"{self.path} holds a {models}, train.model is {branch.model}: set train.model={models}")
        return next((p for p in pairs if p[1].stream == branch.stream), pairs[0])

    def _copy(self, name: str, mine: Tensor, other: Tensor | None, axes: Sequence[int], target: Recogniser) -> int:
        """Copy into ``mine``; returns how many of its numbers were taken. ``axes``: per axis its entries per joint, the
        square counting as -1; () where the sizes do not depend on joints."""
        if other is None:
            return 0
        rows = self._classes(name, mine, other, target)
        if rows is not None:
            return _move(mine, other, rows)
        if any(axes) and self.source.layout.joints != target.layout.joints:
            joints = _pairs(self.source.layout.joints, target.layout.joints)
            v, w = len(self.source.layout.joints), len(target.layout.joints)
            sizes = zip(axes, other.shape, mine.shape, strict=True)
            if not all(_of_joints(per, a, v) and _of_joints(per, b, w) for per, a, b in sizes):
                return 0
            moved = _move(mine, other, [_grown(joints, per, v, w) for per in axes])
            return mine.numel() if moved and len(joints) == w else moved
        if mine.shape != other.shape:
            return 0
        mine.copy_(other)
        return mine.numel()

    def _classes(
        self, name: str, mine: Tensor, other: Tensor, target: Recogniser
    ) -> list[list[tuple[int, int]] | None] | None:
        """The pairs of rows (columns, for the class memory) of classes that have the same name; None for tensors that
        are not of classes."""
        head, memory = name.startswith("classify."), name == "contrast.memory"
        if not (head or memory):
            return None
        ours, theirs = target.labels, self.source.labels
        nameless = all(label == f"class_{i}" for i, label in enumerate(theirs))
        by_place = nameless and len(ours) == len(theirs)
        pairs = [(i, i) for i in range(len(ours))] if by_place else _pairs(theirs, ours)
        return [pairs] + [None] * (mine.dim() - 1) if head else [None, pairs]

    def _differences(self, target: Recogniser) -> list[str]:
        found = []
        if self.source.config.features != target.config.features:
            found.append(
                f"the checkpoint saw {self.source.config.features!r} features, train.features is "
                f"{target.config.features!r}: its first layers know other numbers"
            )
        lost = [name for name in target.layout.joints if name not in self.source.layout.joints]
        if lost:
            found.append(f"{count(len(lost), 'joint')} unknown to the checkpoint: {some(lost)}")
        missing = [name for name in target.labels if name not in self.source.labels]
        if missing and len(missing) < len(target.labels):
            found.append(f"{count(len(missing), 'class')} unknown to the checkpoint: {some(missing)}")
        return found


def _pairs(theirs: Sequence[str], ours: Sequence[str]) -> list[tuple[int, int]]:
    """(their index, our index) of the names that both have."""
    return [(theirs.index(name), i) for i, name in enumerate(ours) if name in theirs]


def _of_joints(per: int, size: int, joints: int) -> bool:
    """Whether an axis of this size has ``per`` entries for each joint. The official code's 25 coefficients are more
    than its joints; those behind them are not used."""
    return per == 0 or size == (joints**2 if per == -1 else joints * per) or (per == 1 and size > joints)


def _grown(joints: list[tuple[int, int]], per: int, v: int, w: int) -> list[tuple[int, int]] | None:
    """The pairs of places of an axis with ``per`` entries for each joint (-1: joints by joints), of v and w joints."""
    if per == 0:
        return None
    if per == -1:
        return [(a * v + b, c * w + d) for a, c in joints for b, d in joints]
    return [(a * per + k, b * per + k) for a, b in joints for k in range(per)]


def _move(mine: Tensor, other: Tensor, axes: Sequence[list[tuple[int, int]] | None]) -> int:
    """Copy the entries at the pairs of places of each axis; None: the whole axis, whose sizes must be equal."""
    take, put = [], []
    for d, pairs in enumerate(axes):
        if pairs is None:
            if mine.shape[d] != other.shape[d]:
                return 0
            pairs = [(i, i) for i in range(mine.shape[d])]
        if not pairs:
            return 0
        take.append(torch.tensor([a for a, _ in pairs]))
        put.append(torch.tensor([b for _, b in pairs]))
    mine[torch.meshgrid(*put, indexing="ij")] = other[torch.meshgrid(*take, indexing="ij")].to(mine.dtype)
    return int(torch.tensor([len(p) for p in put]).prod())


def _axes(branch: Branch, target: Recogniser) -> dict[str, list[int]]:
    """Name of a tensor → for each of its axes, its entries per joint (-1: joints by joints, 0: none)."""
    shapes = [_shapes(branch, target, joints) for joints in PROBES]
    found = {}
    a, b = PROBES
    for name, one in shapes[0].items():
        axes = []
        for x, y in zip(one, shapes[1][name], strict=True):
            square = (x, y) == (a * a, b * b)
            axes.append(-1 if square else (y - x) // (b - a) if x != y else 0)
        if any(axes):
            found[name] = axes
    return found


def _shapes(branch: Branch, target: Recogniser, joints: int) -> dict[str, torch.Size]:
    """The shapes of the network of ``branch`` for a chain of so many joints."""
    names = tuple(f"joint{i}" for i in range(joints))
    layout = Layout("probe", names, tuple((i, i - 1) for i in range(1, joints)), 0, ())
    channels = Features(target.layout, 2, target.config.features).channels(branch.stream)
    with torch.device("meta"):
        network = build(
            branch.model, layout=layout, classes=len(target.labels), width=branch.width,
            model_options=branch.model_options, in_channels=channels,
        )  # fmt: skip
    return {name: value.shape for name, value in network.state_dict().items()}


def _short(names: Sequence[str]) -> list[str]:
    """The names without the many that differ only in a number: blocks.0-9.time.norm becomes one."""
    return list(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names))
