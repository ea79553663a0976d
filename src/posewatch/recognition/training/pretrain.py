"""Pretraining without labels: the network that `train` uses learns to tell how the joints that it is not shown move.

Masked motion prediction, as MAMP has it (Masked Motion Predictors are Strong 3D Action Representation Learners, ICCV
2023, arXiv 2308.07092): the target is the motion, not the place, and joints that move are hidden more often. The
encoder is a graph network, as in SkeletonMAE (ICCV 2023, arXiv 2307.08476), and whole limbs are hidden for a while, as
in SLiM (arXiv 2603.10648), because one hidden joint can be read off its neighbours. A hidden joint is a missing one
(score 0), which the features fill from other frames: pretraining sees what a lost joint looks like in the field.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posewatch.config import PretrainConfig, TrainConfig
from posewatch.datasets import layouts
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.layouts import Layout
from posewatch.datasets.rendered import LAYOUT, rendered_clips
from posewatch.digests import canonical, digest
from posewatch.errors import ConfigError, InputError
from posewatch.files import write_atomically
from posewatch.fingerprints import fingerprinted
from posewatch.progress import Progress
from posewatch.recognition.models import ALIASES, NETWORKS
from posewatch.recognition.models.base import Network
from posewatch.recognition.recogniser import PRETRAINING, Recogniser, save
from posewatch.recognition.training import state as states
from posewatch.recognition.training.augment import Augment, limbs
from posewatch.recognition.training.batches import batches_of
from posewatch.recognition.training.norms import measure_norms
from posewatch.recognition.training.trainer import MIN_STEPS, device_of, optimiser_of, plain, rate, threads
from posewatch.units import PERSON

CLASSES = ("unlabelled",)
"""The class of a pretrained checkpoint; a training takes nothing of its head."""
CELLS = 4
"""Parts of a clip: a limb is hidden for one of them at the least."""
FRAMES = 4
"""Frames that each place of a map stands for: every network of the zoo halves the frame rate twice."""
STEP = 0.05
"""The motion, in body sizes a frame, up to which errors count squared and beyond which they count in proportion."""
FILES = ("checkpoint.pt", "history.jsonl")


@dataclass(frozen=True)
class Source:
    """Clips to pretrain on; their labels are not looked at."""

    clips: ClipSet
    layout: Layout


def source_of(clips: ClipSet | None, config: TrainConfig, how: PretrainConfig, layout: Layout | None = None) -> Source:
    """What to pretrain on: the ``clips`` and ``how.rendered`` clips of rendered people, as long and at the same rate.

    ``layout`` is that of the clips where it is none of the built-in ones. Raises InputError for rendered people beside
    clips of another layout, or beside clips of one person each; ConfigError for a network that cannot be pretrained.
    """
    if NETWORKS[ALIASES.get(config.model, config.model)].maps is Network.maps:
        raise ConfigError(
            f"train.model {config.model} has no layers to pretrain: take a graph network (train.model=protogcn, or "
            "--config small)"
        )
    clips = clips.with_flow(0) if clips is not None else None
    layout = layout or layouts.get(clips.layout if clips else LAYOUT)
    if not how.rendered:
        if clips is None:
            raise InputError("there is no clip to pretrain on")
        return Source(clips, layout)
    if clips is None:
        return Source(rendered_clips(how.rendered), layout)
    if layout.joints[: layout.observed] != layouts.get(LAYOUT).joints:
        raise InputError(f"rendered people have the joints of {LAYOUT}, the clips are {layout.name}: leave one out")
    if clips.unit == PERSON or clips.relative:
        raise InputError("rendered clips show scenes in pixels, the clips single persons: set pretrain.rendered=0")
    frames = max(2.0, float(np.median([k.shape[1] for k in clips.keypoints])))
    made = rendered_clips(how.rendered, seconds=frames / clips.fps, fps=clips.fps)
    return Source(clips.joined(made), layout)


def pretrain(source: Source, config: TrainConfig, how: PretrainConfig, out: Path) -> Path:
    """Pretrain the network of ``config`` on clips without labels; returns ``checkpoint.pt`` in ``out``, beside which
    ``history.jsonl`` has the loss of each epoch.

    `train` takes the checkpoint as ``train.pretrained``. A killed run goes on when it is called again; a finished one
    is only read. Raises InputError or ConfigError before anything is written.
    """
    config = replace(
        config.without_beside(), epochs=how.epochs, batch=how.batch, lr=how.lr, optimiser="adamw", pretrained="",
        augment=replace(config.augment, joint_dropout=0.0, limb_dropout=0.0, person_dropout=0.0, frame_dropout=0.0),
    )  # fmt: skip
    _check(source, config)
    out.mkdir(parents=True, exist_ok=True)
    path = out / FILES[0]
    with threads(config.threads), Progress("pretrain", config.epochs, "epoch") as progress:
        run = _Run(source, config, how)
        if states.finished(path, run.key):
            progress.advance(config.epochs, note="pretrained before", before=True)
            return path
        run.resume(out)
        if run.epoch:
            progress.advance(run.epoch, note=f"resumed after epoch {run.epoch}", before=True)
        while run.epoch < config.epochs:
            row = run.one_epoch()
            write_atomically(out / FILES[1], "".join(canonical(r) + "\n" for r in run.history).encode())
            states.write(out, run.state())
            progress.advance(note=f"explains {row['explained']:.0%} of the hidden motion")
        measure_norms(run.recogniser, source.clips, config, run.augment)
        weights = run.recogniser.state_dict()
        save(path, run.recogniser, weights, {"epoch": run.epoch, "run": run.key, PRETRAINING: "masked motion"})
        states.remove(out)
    return path


def _check(source: Source, config: TrainConfig) -> None:
    if not len(source.clips):
        raise InputError("there is no clip to pretrain on")
    source.clips.require_pixels(config.features)
    joints = source.clips.keypoints[0].shape[2]
    layout = layout_for(source, config)
    if joints != layout.observed:
        raise InputError(f"the clips have {joints} joints, layout {layout.name!r} wants {layout.observed}")
    if config.layout:
        layouts.require_alike(source.layout.name, layout, "train.layout's")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.device is cuda, but torch finds no GPU here (use auto or cpu)")
    with torch.device("meta"):
        Recogniser(config, layout, CLASSES, "", source.clips.fps)


def layout_for(source: Source, config: TrainConfig) -> Layout:
    """The data's own layout, or one that adds virtual joints to it."""
    return layouts.get(config.layout) if config.layout else source.layout


class MaskedMotion(nn.Module):
    """Keypoints (N, M, T, V, 3) → the loss of telling the motion of hidden joints, and the same loss of telling none.

    A head of two 1x1 convolutions on each network's maps (B, D, T', V) tells the motion of the frames that each of
    their T' stands for. It is dropped after pretraining.
    """

    def __init__(self, recogniser: Recogniser, share: float) -> None:
        super().__init__()
        self.recogniser, self.share = recogniser, share
        layout = recogniser.layout
        self.observed = layout.observed
        self.register_buffer("parts", torch.from_numpy(_parts(layout)), persistent=False)
        self.heads = nn.ModuleList()
        frames = recogniser.frames
        for network in recogniser.networks:
            width = cast(nn.Linear, network.classify).in_features
            self.heads.append(nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, 2 * FRAMES, 1)))
        cells = min(CELLS, frames)
        self.register_buffer("cell", torch.arange(frames) * cells // frames, persistent=False)

    def forward(self, keypoints: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        features = self.recogniser.features
        place, _ = features.normalise(keypoints)
        place = place[..., : self.observed, :2]
        seen = keypoints[..., 2] > 0
        motion = (place[:, :, 1:] - place[:, :, :-1]) / STEP
        hidden = self.hidden(motion, seen, generator)
        wanted = (hidden[:, :, 1:] & seen[:, :, 1:] & seen[:, :, :-1]).to(motion.dtype)[..., None]
        count = wanted.sum().clamp(min=1) * 2

        def mean(told: Tensor) -> Tensor:
            return (F.smooth_l1_loss(told, motion, reduction="none") * wanted).sum() / count

        x, present = features(keypoints * ~hidden[..., None])
        loss = motion.new_zeros(())
        pairs = zip(self.recogniser.networks, self.recogniser.branches, self.heads, strict=True)
        for network, branch, head in pairs:
            rows = features.stack(x, present, branch.stream).flatten(0, 1)
            maps = head(cast(Network, network).maps(rows)[..., : self.observed])
            loss = loss + mean(self._motion(maps, keypoints.shape)) / len(self.heads)
        return loss, mean(torch.zeros_like(motion)).detach()

    def _motion(self, told: Tensor, shape: torch.Size) -> Tensor:
        """The head's (B, 2 * frames, T', V) → motion (N, M, T - 1, V, 2)."""
        n, m, t, v, _ = shape
        told = told.view(n, m, 2, FRAMES, -1, v).permute(0, 1, 4, 3, 5, 2)
        return told.reshape(n, m, -1, v, 2)[:, :, : t - 1]

    def hidden(self, motion: Tensor, seen: Tensor, generator: torch.Generator) -> Tensor:
        """The joints to hide, bool (N, M, T, V): whole limbs for whole parts of the clip, ``share`` of them, those that
        move first but for chance. ``motion`` (N, M, T - 1, V, 2)."""
        parts, cell = cast(Tensor, self.parts), cast(Tensor, self.cell)
        speed = F.pad(motion.norm(dim=-1), (0, 0, 1, 0)) * seen
        own = F.one_hot(parts).to(speed.dtype)
        when = F.one_hot(cell).to(speed.dtype)
        strength = when.T @ (speed @ own) / (when.T @ (seen.to(speed.dtype) @ own)).clamp(min=1)
        drawn = torch.rand(strength.shape, generator=generator, device=generator.device).to(speed.device)
        # Gumbel's noise: this order is a draw without replacement in proportion to the square root of the speed.
        order = 0.5 * (strength + 1e-3).log() - (-(drawn.clamp(1e-6, 1 - 1e-6).log())).log()
        flat = order.flatten(2)
        top = flat.topk(max(1, round(self.share * flat.shape[2])), -1).indices
        chosen = torch.zeros_like(flat, dtype=torch.bool).scatter_(2, top, True).view_as(order)
        return chosen[:, :, cell][..., parts]


def _parts(layout: Layout) -> Any:
    """(V,): the number of the limb that each observed joint belongs to; the last number is that of the rest."""
    found = limbs(layout)
    whole = [limb for limb in found if not any((limb <= other).all() and limb.sum() < other.sum() for other in found)]
    out = np.full(layout.observed, len(whole), np.int64)
    for i, limb in enumerate(whole):
        out[limb] = i
    return np.unique(out, return_inverse=True)[1]


class _Run:
    """A pretraining between two epochs."""

    def __init__(self, source: Source, config: TrainConfig, how: PretrainConfig) -> None:
        self.clips, self.config = source.clips, config
        self.device = device_of(config)
        torch.manual_seed(config.seed)
        layout = layout_for(source, config)
        clips = source.clips
        self.recogniser = Recogniser(config, layout, CLASSES, "", clips.fps, unit=clips.unit).to(self.device)
        self.task = MaskedMotion(self.recogniser, how.mask).to(self.device)
        self.optimiser = optimiser_of(self.task, config)
        self.augment = Augment(layout, config.augment)
        self.batches = batches_of(clips, config, self.device)
        self.steps = max(MIN_STEPS, math.ceil(len(clips) / config.batch))
        data = hashlib.sha256()
        for k in clips.keypoints:
            data.update(np.ascontiguousarray(k).tobytes())
        self.key = digest([fingerprinted(plain(config)), layout.to_dict(), how.mask, PRETRAINING, data.hexdigest()])
        self.epoch = 0
        self.history: list[dict[str, Any]] = []

    def one_epoch(self) -> dict[str, Any]:
        config = self.config
        seed = config.seed * 1_000_003 + self.epoch
        torch.manual_seed(seed)
        draws = torch.Generator(self.device).manual_seed(seed)
        rng = np.random.default_rng([config.seed, self.epoch])
        n = self.steps * config.batch
        order = np.concatenate([rng.permutation(len(self.clips)) for _ in range(math.ceil(n / len(self.clips)))])[:n]
        self.task.train()
        sums = torch.zeros(2, device=self.device)
        for step in range(self.steps):
            places = np.arange(step * config.batch, (step + 1) * config.batch)
            batch = self.batches.batch(order[places], [[config.seed, self.epoch, int(place)] for place in places])
            now = rate(self.epoch * self.steps + step, self.steps * config.epochs, config.lr_warmup)
            for group in self.optimiser.param_groups:
                group["lr"] = config.lr * now
            self.optimiser.zero_grad()  # what has no gradient, such as the head of classes, is not decayed either
            loss, without = self.task(self.augment(batch, draws), draws)
            loss.backward()
            nn.utils.clip_grad_norm_(self.task.parameters(), 10.0)
            self.optimiser.step()
            sums += torch.stack([loss.detach(), without])
        loss, without = (sums / self.steps).tolist()
        self.epoch += 1
        if not math.isfinite(loss):
            raise ConfigError(f"pretraining diverged in epoch {self.epoch} (lower pretrain.lr, it is {config.lr:g})")
        row = {"epoch": self.epoch, "loss": round(loss, 6), "explained": round(1 - loss / max(without, 1e-9), 6)}
        self.history.append(row)
        return row

    def state(self) -> dict[str, Any]:
        weights, optimiser = self.task.state_dict(), self.optimiser.state_dict()
        return {"key": self.key, "weights": weights, "optimiser": optimiser, "epoch": self.epoch, "rows": self.history}

    def resume(self, out: Path) -> None:
        """Go on from the newest state of this very run in the folder ``out``."""
        state = states.read(out, self.key, self.device)
        if state is not None:
            self.task.load_state_dict(state["weights"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.epoch, self.history = state["epoch"], state["rows"]
