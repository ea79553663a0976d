"""Train a recogniser on few clips: balanced classes, augmentation, averaged weights, a threshold from validation.

Every epoch ends in a state file, and all randomness follows from the seed, the epoch and the clip's place in it: a run
that was killed goes on from its last epoch and, on a CPU with as many threads, ends bit-equal to one that was not; one
that is spread over several processes (``torchrun``) sees the same batches as one that is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from posewatch.config import TrainConfig
from posewatch.datasets import layouts
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.layouts import Layout
from posewatch.digests import canonical, digest
from posewatch.errors import ConfigError, InputError
from posewatch.files import write_atomically
from posewatch.fingerprints import fingerprinted
from posewatch.progress import Progress
from posewatch.recognition import distributed as parallel
from posewatch.recognition import novelty
from posewatch.recognition.calibration import Calibration, HeldOut, calibrate
from posewatch.recognition.models.base import Network
from posewatch.recognition.novelty import Novelty
from posewatch.recognition.recogniser import Recogniser, save, wants_flow
from posewatch.recognition.threshold import odds_of
from posewatch.recognition.training import state as states
from posewatch.recognition.training.augment import Augment
from posewatch.recognition.training.batches import batches_of, emphasis_of
from posewatch.recognition.training.checks import check
from posewatch.recognition.training.mlflow import Tracker
from posewatch.recognition.training.norms import measure_norms
from posewatch.recognition.training.pretrained import Pretrained

PROGRESS = ("epoch", "history", "average", "best", "best_loss", "best_epoch", "stopped")
"""Attributes of a run that its state file holds, beside the weights and the optimiser."""
MIN_STEPS = 8
"""Steps of an epoch at the least: a small set is passed several times, each time augmented anew."""
VALIDATE = 5
"""Epochs between two evaluations on the validation clips."""


def train(
    train_set: ClipSet,
    val_set: ClipSet,
    config: TrainConfig,
    out: Path,
    *,
    positive: str = "abnormal",
    layout: Layout | None = None,
    calibration: Calibration | None = None,
    allow_shared: bool = False,
    progress: Progress | None = None,
    tracker: Tracker | None = None,
    begin: Pretrained | None = None,
) -> Path:
    """Train and write ``checkpoint.pt``, ``history.jsonl`` and ``config.yaml`` to ``out``; returns the checkpoint.

    Without clips in ``val_set`` the last averaged weights are saved, with ``calibration`` if given. ``positive`` may be
    empty: no class raises alerts. With ``allow_shared`` the same people may be in both sets. ``progress`` advances by
    one per epoch; ``begin`` gives the first weights. Raises LabelError, ConfigError or InputError for data or
    settings that cannot be trained on.
    """
    flow = train_set.flow if wants_flow(config) else 0
    train_set, val_set = train_set.with_flow(flow), val_set.with_flow(flow)
    layout = (layout or layouts.get(config.layout or train_set.layout)).with_flow(flow)
    check(train_set, val_set, config, positive, layout, allow_shared)
    out.mkdir(parents=True, exist_ok=True)
    main = parallel.writer()
    with threads(config.threads):
        run = _Run(train_set, val_set, config, layout, positive, calibration, begin)
        if states.finished(out / "checkpoint.pt", run.key):
            if progress is not None:
                progress.advance(config.epochs, note="trained before", before=True)
            return out / "checkpoint.pt"
        run.resume(out)
        if progress is not None and run.epoch:
            progress.advance(run.epoch, note=f"resumed after epoch {run.epoch}", before=True)
        while run.epoch < config.epochs and not run.stopped:
            row = run.one_epoch()
            if main:
                write_atomically(out / "history.jsonl", "".join(canonical(r) + "\n" for r in run.history).encode())
                states.write(out, run.state())
                if tracker is not None and parallel.rank() == 0:
                    tracker.epoch(row, run.epoch)
            if progress is not None:
                progress.advance(note=f"loss {row['train_loss']:.3f}")
        if progress is not None and run.epoch < config.epochs:
            progress.advance(config.epochs - run.epoch, note=f"stopped after epoch {run.epoch}")
        run.recogniser.calibration = run.calibration()
        run.recogniser.novelty = run.novelty()
        if main:
            write_atomically(out / "config.yaml", text(config).encode())
            epoch = run.best_epoch if config.patience else run.epoch
            save(out / "checkpoint.pt", run.recogniser, run.final(), {"epoch": epoch, "run": run.key})
            states.remove(out)
    parallel.barrier()
    return out / "checkpoint.pt"


class _Run:
    """One training run between two epochs. ``state`` holds everything that a killed run needs to go on."""

    def __init__(
        self,
        train_set: ClipSet,
        val_set: ClipSet,
        config: TrainConfig,
        layout: Layout,
        positive: str,
        calibration: Calibration | None = None,
        begin: Pretrained | None = None,
    ) -> None:
        self.train_set, self.val_set, self.config, self.layout = train_set, val_set, config, layout
        self.given = calibration
        self._final: dict[str, Tensor] | None = None
        self.device = device_of(config)
        torch.manual_seed(config.seed)
        recogniser = Recogniser(config, layout, train_set.classes, positive, train_set.fps, unit=train_set.unit)
        self.begin = ""
        if begin is not None:
            begin.into(recogniser)
            self.begin = begin.digest
        self.recogniser = recogniser.to(self.device)
        self.positive = train_set.classes.index(positive) if positive else -1
        self.optimiser = optimiser_of(self.recogniser, config)
        counts = np.bincount(train_set.labels, minlength=len(train_set.classes))
        weight = torch.ones(len(counts))
        if config.balance == "weights":
            weight = torch.tensor(len(train_set) / (len(counts) * counts), dtype=torch.float32)
        losses = Losses(self.recogniser, config, weight.to(self.device))
        self.losses = parallel.distribute(losses)
        self.emphasis = emphasis_of(train_set, config)
        self.augment = Augment(layout, config.augment)
        self.clips = batches_of(train_set, config, self.device)
        self.steps = max(MIN_STEPS, math.ceil(len(train_set) / config.batch))
        self.average = _copy(self.recogniser.state_dict())
        self.key = self._key()
        place_gradients(self.recogniser)
        self.epoch, self.stopped = 0, False
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] | None = None
        self.best_loss, self.best_epoch = math.inf, 0

    def one_epoch(self) -> dict[str, Any]:
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + self.epoch)
        draws = torch.Generator(self.device).manual_seed(config.seed * 1_000_003 + self.epoch)
        self.recogniser.train()
        sums = torch.zeros(4, device=self.device)
        for step, (picked, keypoints) in enumerate(self._batches()):
            batch = self.augment(keypoints, draws, parallel.rank(), parallel.world())
            labels = torch.from_numpy(self.train_set.labels[picked]).to(self.device)
            emphasis = torch.from_numpy(self.emphasis[picked]).to(self.device)
            for group in self.optimiser.param_groups:
                group["lr"] = config.lr * rate(
                    self.epoch * self.steps + step, self.steps * config.epochs, config.lr_warmup
                )
            self.optimiser.zero_grad(set_to_none=False)
            try:
                loss, parts, right, spread = self.losses(batch, labels, emphasis)
                loss.backward()
            except torch.OutOfMemoryError:
                self.optimiser.zero_grad(set_to_none=True)
                raise InputError(self._too_large(batch, labels, emphasis)) from None
            if config.optimiser == "adamw":
                for network in self.recogniser.networks:  # each as if it were alone
                    torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            self.optimiser.step()
            self._update_average(self.epoch * self.steps + step)
            sums += torch.stack([parts[0], parts[1], right / len(picked), spread])
        cross, contrastive, accuracy, spreading = (parallel.mean(sums) / self.steps).tolist()
        self.epoch += 1
        row: dict[str, Any] = {
            "epoch": self.epoch,
            "lr": round(self.optimiser.param_groups[0]["lr"], 8),
            "train_loss": round(cross, 6),
            "contrastive_loss": round(contrastive, 6),
            "train_accuracy": round(accuracy, 6),
            # Near zero, ProtoGCN's prototypes have collapsed: every clip's graph is rebuilt alike.
            "reconstruction_spread": round(spreading, 8),
        }
        if not math.isfinite(cross + contrastive):
            raise ConfigError(f"training diverged in epoch {self.epoch} (lower train.lr, it is {config.lr:g})")
        # Without early stopping the curve is only looked at: every few epochs are enough.
        if len(self.val_set) and (config.patience or self.epoch % VALIDATE == 0 or self.epoch == config.epochs):
            row |= self._validate()
        self.history.append(row)
        return row

    def _order(self) -> NDArray[np.int64]:
        """The clips of this epoch: ``steps`` full batches."""
        rng = np.random.default_rng([self.config.seed, self.epoch])
        n, clips = self.steps * self.config.batch, len(self.train_set)
        if self.config.balance == "sampling":
            labels = self.train_set.labels
            share = 1 / np.bincount(labels)[labels]
            return rng.choice(clips, n, p=share / share.sum()).astype(np.int64)
        return np.concatenate([rng.permutation(clips) for _ in range(math.ceil(n / clips))])[:n]

    def _batches(self) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """This process's share of each batch, on its device, made while the step before it is computed."""
        order, config = self._order(), self.config
        own = config.batch // parallel.world()
        share = slice(parallel.rank() * own, (parallel.rank() + 1) * own)

        def make(step: int) -> tuple[NDArray[np.int64], Tensor]:
            places = np.arange(step * config.batch, (step + 1) * config.batch)[share]
            seeds = [[config.seed, self.epoch, int(place)] for place in places]
            return order[places], self.clips.batch(order[places], seeds)

        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(make, 0)
            for step in range(self.steps):
                batch = ahead.result()
                if step + 1 < self.steps:
                    ahead = pool.submit(make, step + 1)
                yield batch

    def _too_large(self, batch: Tensor, labels: Tensor, emphasis: Tensor) -> str:
        """The error for a batch that does not fit into the memory, with the largest half, quarter, ... that does."""
        n = len(batch)
        while n > 1:
            n //= 2
            try:
                torch.cuda.empty_cache()
                self.losses(batch[:n], labels[:n], emphasis[:n])[0].backward()
            except torch.OutOfMemoryError:
                continue
            finally:
                self.optimiser.zero_grad(set_to_none=True)
            return (
                f"a batch of {len(batch)} clips does not fit into the memory of {self.device}: {n} do; "
                f"set train.batch={n * parallel.world()}"
            )
        return f"not even one clip fits into the memory of {self.device}: lower train.width or train.clip_frames"

    def _update_average(self, step: int) -> None:
        span = self.config.average_epochs * self.steps
        decay = min(math.exp(-1 / span), (1 + step) / (10 + step)) if span > 0 else 0.0
        own = self.recogniser.state_dict()
        moving = [name for name, value in own.items() if value.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_([self.average[k] for k in moving], [own[k] for k in moving], 1 - decay)
            for name in own.keys() - set(moving):
                self.average[name].copy_(own[name])

    @contextlib.contextmanager
    def _loaded(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """Inside, the recogniser has these weights."""
        own = _copy(self.recogniser.state_dict())
        self.recogniser.load_state_dict(weights)
        try:
            yield
        finally:
            self.recogniser.load_state_dict(own)

    def _validate(self) -> dict[str, float]:
        """Evaluate what would be kept if training ended here; the best has the lowest class-balanced loss so far."""
        with self._loaded(self._with_norms(self.average)):
            p = self.recogniser.score(self.val_set)
        labels = self.val_set.labels
        chosen = np.clip(p[np.arange(len(p)), labels], 1e-6, 1)
        counts = np.bincount(labels, minlength=len(self.train_set.classes))
        weight = 1 / counts[labels]
        loss = float(-(np.log(chosen) * weight).sum() / weight.sum())
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, self.epoch
            self.best = _copy(self.average)
        self.stopped = self.config.patience > 0 and self.epoch - self.best_epoch >= self.config.patience
        return {"val_loss": round(loss, 6), "val_accuracy": round(float((p.argmax(1) == labels).mean()), 6)}

    def final(self) -> dict[str, Tensor]:
        """The averaged weights at the end; with early stopping (``patience``), those that validated best."""
        if self._final is None:
            weights = self.best if self.best is not None and self.config.patience > 0 else self.average
            self._final = self._with_norms(weights)
        return self._final

    def _with_norms(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Averaged ``weights`` with batch statistics of their own, measured on the training clips."""
        if self.config.average_epochs <= 0:
            return weights
        # Every process has all clips: none waits for another.
        with self._loaded(weights), parallel.alone():
            measure_norms(self.recogniser, self.train_set, self.config, self.augment)
            return _copy(self.recogniser.state_dict())

    def calibration(self) -> Calibration:
        if self.given is not None:
            return self.given
        if not len(self.val_set):
            return Calibration()
        with self._loaded(self.final()):
            held = HeldOut.by(self.recogniser.score(self.val_set), self.val_set)
        if self.positive < 0:
            return calibrate(held, None, self.config)
        return calibrate(held, self.positive, self.config, odds_of(self.train_set, self.positive, self.config))

    def novelty(self) -> Novelty | None:
        """The density of the training clips; in units of the clips that this training, or the one before, held out."""
        ratio = self.given.novelty if self.given is not None else None
        with self._loaded(self.final()):
            known = self.recogniser.embeddings(self.train_set.subset(novelty.some(len(self.train_set))))
            held_out = self.recogniser.embeddings(self.val_set)
        return novelty.fit(known, held_out, ratio or novelty.RATIO)

    def _key(self) -> str:
        """The fingerprint of a run: of its settings and clips."""
        data = hashlib.sha256()
        for clips in (self.train_set, self.val_set):
            for k in clips.keypoints:
                data.update(np.ascontiguousarray(k).tobytes())
            data.update(clips.labels.tobytes())
        settings = fingerprinted({k: v for k, v in plain(self.config).items() if k != "pretrained"})
        given = None if self.given is None else [self.given.threshold, self.given.temperature]
        about = [settings, self.layout.to_dict(), list(self.train_set.classes), self.positive, given]
        about += [self.begin] if self.begin else []
        about += [self.emphasis.tolist()] if (self.emphasis != 1).any() else []
        return digest([about, data.hexdigest()])

    def state(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "weights": self.recogniser.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            **{name: getattr(self, name) for name in PROGRESS},
        }

    def resume(self, out: Path) -> None:
        """Go on from the newest state of this very run in the folder ``out``."""
        state = states.read(out, self.key, self.device)
        if state is None:
            return
        self.recogniser.load_state_dict(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name in PROGRESS:
            setattr(self, name, state[name])


class Losses(nn.Module):
    """Keypoints, labels and weights of clips in, losses out: the module that a distributed training replicates."""

    def __init__(self, recogniser: Recogniser, config: TrainConfig, weight: Tensor) -> None:
        super().__init__()
        self.recogniser, self.config = recogniser, config
        self.register_buffer("weight", weight)

    def forward(
        self, keypoints: Tensor, labels: Tensor, emphasis: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the loss, its cross-entropy and contrastive parts (2,), the number of right clips, and the spread."""
        recogniser, config = self.recogniser, self.config
        x, present = recogniser.features(keypoints)
        bf16 = config.precision == "bf16"
        weight = cast(Tensor, self.weight)[labels]
        weight = weight if emphasis is None else weight * emphasis
        loss, cross, extra, spread = (x.new_zeros(()) for _ in range(4))
        mean = x.new_zeros(len(x), len(recogniser.labels))
        for network, branch in zip(recogniser.networks, recogniser.branches, strict=True):
            network = cast(Network, network)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
                output = network(recogniser.features.stack(x, present, branch.stream), present)
            logits = output.logits.float()
            ce = (F.cross_entropy(logits, labels, reduction="none", label_smoothing=config.smoothing) * weight).mean()
            rebuilt = output.reconstruction
            auxiliary = network.auxiliary_loss(
                output._replace(logits=logits, reconstruction=None if rebuilt is None else rebuilt.float()), labels
            )
            loss = loss + ce + config.contrastive * auxiliary
            cross, extra = cross + ce.detach(), extra + auxiliary.detach()
            mean = mean + torch.softmax(logits.detach(), 1) * branch.weight
            if rebuilt is not None:
                spread = spread + parallel.spread(rebuilt.float()).mean()
        right = (mean.argmax(1) == labels).sum()
        return loss, torch.stack([cross, extra]) / len(recogniser.branches), right, spread


def rate(step: int, total: int, warmup: float) -> float:
    """The share of the learning rate at a step: a linear rise over the share ``warmup``, then half a cosine."""
    rise = int(warmup * total)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def optimiser_of(recogniser: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimiser == "sgd":
        return torch.optim.SGD(
            recogniser.parameters(), lr=config.lr, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
        )
    # SGD, the paper's choice, needs more steps than a hundred clips give it to leave the first plateau.
    matrices = [p for p in recogniser.parameters() if p.dim() > 1]
    rest = [p for p in recogniser.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    # One pass over all weights instead of ten: a twentieth of a small network's training on a CPU.
    return torch.optim.AdamW(groups, lr=config.lr, fused=next(recogniser.parameters()).device.type == "cpu" or None)


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in weights.items()}


def plain(config: TrainConfig) -> dict[str, Any]:
    """A configuration as plain data that YAML holds."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}


def text(config: TrainConfig) -> str:
    """A configuration as a YAML file."""
    return yaml.safe_dump({"train": plain(config)}, sort_keys=False)


def place_gradients(module: nn.Module) -> None:
    """Allocate the gradients before the first step; ``zero_grad(set_to_none=False)`` keeps them.

    Allocated during the backward pass they would lie in the memory that activations have left, which no other
    activation would fit into then: in full-size training on a CPU that takes a quarter of all memory.
    """
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Inside, torch uses so many CPU threads (0: as many as before), and its draws leave the caller's alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)


def device_of(config: TrainConfig) -> torch.device:
    """Where to train: this process's GPU where there is one, unless the configuration says otherwise."""
    if config.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", parallel.rank() % torch.cuda.device_count())
