"""Train a recogniser on few clips: balanced classes, augmentation, averaged weights, a threshold from validation.

Every epoch ends in a state file, and all randomness follows from the seed and the number of the epoch: a run that was
killed goes on from its last epoch and, on a CPU with as many threads, ends bit-equal to one that was not.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from numpy.typing import NDArray
from torch import Tensor

from posewatch import layouts
from posewatch.config import TrainConfig, canonical, digest
from posewatch.errors import ConfigError, InputError, LabelError
from posewatch.layouts import Layout
from posewatch.progress import Progress
from posewatch.recognition.augment import augment
from posewatch.recognition.dataset import ClipSet, resample
from posewatch.recognition.recogniser import (
    Recogniser,
    choose_threshold,
    dump,
    load_checkpoint,
    save,
    write_atomically,
)

__all__ = ["load_checkpoint", "train"]

STATE = ".state.pt"
WARM_UP = 0.1
"""Share of all steps over which the learning rate rises."""
MAX_LR = 0.02
"""A rate meant for SGD is a mistake with AdamW, and one that ends in a model that merely looks bad."""
MIN_STEPS = 8
"""Steps of an epoch at the least: a small set is gone through several times, each time augmented anew."""
THRESHOLD_CLIPS = 100
"""Validation clips that weigh as much as the prior, a threshold of one half."""
AVERAGE_EPOCHS = 3.0
"""Epochs over which the averaged weights forget."""


def train(
    train_set: ClipSet,
    val_set: ClipSet,
    config: TrainConfig,
    out: Path,
    *,
    positive: str = "abnormal",
    layout: Layout | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train and write ``checkpoint.pt``, ``history.jsonl`` and ``config.yaml`` to ``out``; returns the checkpoint.

    ``val_set`` may be empty: then the last averaged weights are kept and the threshold stays at 0.5. ``progress``
    advances by one per epoch. Raises LabelError, ConfigError or InputError for what cannot be trained on.
    """
    layout = layout or layouts.get(train_set.layout)
    _check(train_set, val_set, config, positive, layout)
    out.mkdir(parents=True, exist_ok=True)
    with _threads(config.threads):
        run = _Run(train_set, val_set, config, layout, positive)
        run.resume(out / STATE)
        if progress is not None and run.epoch:
            progress.advance(run.epoch, note=f"resumed after epoch {run.epoch}")
        while run.epoch < config.epochs and not run.stopped:
            row = run.one_epoch()
            write_atomically(out / "history.jsonl", "".join(canonical(r) + "\n" for r in run.history).encode())
            write_atomically(out / STATE, dump(run.state()))
            if progress is not None:
                progress.advance(note=f"loss {row['train_loss']:.3f}")
        recogniser = run.recogniser
        recogniser.threshold = run.threshold()
        write_atomically(out / "config.yaml", yaml.safe_dump({"train": asdict(config)}, sort_keys=False).encode())
        save(
            out / "checkpoint.pt", recogniser, run.chosen(), {"epoch": run.best_epoch if config.patience else run.epoch}
        )
    (out / STATE).unlink(missing_ok=True)
    return out / "checkpoint.pt"


def _check(train_set: ClipSet, val_set: ClipSet, config: TrainConfig, positive: str, layout: Layout) -> None:
    if min(config.epochs, config.batch, config.frames, config.people) < 1 or config.frames < 2 or config.lr <= 0:
        raise ConfigError("train: epochs, batch and people must be at least 1, frames at least 2 and lr above 0")
    if config.lr > MAX_LR:
        raise ConfigError(f"train.lr {config.lr:g} is too high for AdamW: set it to about 0.003, at most {MAX_LR:g}")
    if positive not in train_set.classes:
        raise LabelError(f"the positive class {positive!r} is none of {', '.join(train_set.classes)}")
    counts = np.bincount(train_set.labels, minlength=len(train_set.classes))
    for name, count in zip(train_set.classes, counts, strict=True):
        if count == 0:
            raise LabelError(f"no training clip is labelled {name!r}: label some, or take the class out")
    if len(val_set) and val_set.classes != train_set.classes:
        raise LabelError("training and validation clips have different classes")
    shared = sorted(set(train_set.groups) & set(val_set.groups))
    if shared:
        raise InputError(f"{shared[0]} is on both sides of the split, training and validation (split by group)")
    joints = train_set.keypoints[0].shape[2]
    if joints != layout.observed:
        raise InputError(f"the clips have {joints} joints, layout {layout.name!r} wants {layout.observed}")


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """One training run, between epochs: everything that has to survive a kill is in ``state``."""

    def __init__(
        self, train_set: ClipSet, val_set: ClipSet, config: TrainConfig, layout: Layout, positive: str
    ) -> None:
        self.train_set, self.val_set, self.config, self.layout = train_set, val_set, config, layout
        torch.manual_seed(config.seed)
        self.recogniser = Recogniser(config, layout, train_set.classes, positive, train_set.fps)
        self.positive = train_set.classes.index(positive)
        decay = [p for p in self.recogniser.parameters() if p.dim() > 1]
        plain = [p for p in self.recogniser.parameters() if p.dim() <= 1]
        # SGD, the paper's choice, needs more steps than a hundred clips give it to leave the first plateau.
        self.optimiser = torch.optim.AdamW(
            [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config.lr,
        )
        counts = np.bincount(train_set.labels, minlength=len(train_set.classes))
        self.balance = torch.tensor(len(train_set) / (len(counts) * counts), dtype=torch.float32)
        self.steps = max(MIN_STEPS, math.ceil(len(train_set) / config.batch))
        self.average = {k: v.clone() for k, v in self.recogniser.state_dict().items()}
        self.val = resample(val_set.keypoints, config.frames, config.people)
        self.epoch, self.history, self.stopped = 0, [], False  # type: tuple[int, list[dict[str, Any]], bool]
        self.best: dict[str, Tensor] | None = None
        self.best_loss, self.best_epoch = math.inf, 0

    def one_epoch(self) -> dict[str, Any]:
        config = self.config
        rng = np.random.default_rng([config.seed, self.epoch])
        torch.manual_seed(config.seed * 1_000_003 + self.epoch)
        self.recogniser.train()
        n = max(len(self.train_set), MIN_STEPS * config.batch)
        rounds = math.ceil(n / len(self.train_set))
        order = np.concatenate([rng.permutation(len(self.train_set)) for _ in range(rounds)])[:n]
        total, auxiliary, right, spread = 0.0, 0.0, 0, 0.0
        for step in range(self.steps):
            picked = order[step * config.batch : (step + 1) * config.batch]
            clips = [self.train_set.keypoints[i] for i in picked]
            batch = augment(clips, self.layout, config.frames, config.people, config.joint_dropout, rng)
            labels = torch.from_numpy(self.train_set.labels[picked])
            for group in self.optimiser.param_groups:
                group["lr"] = config.lr * self._rate(self.epoch * self.steps + step)
            output = self.recogniser.run(torch.from_numpy(batch))
            loss = F.cross_entropy(output.logits, labels, self.balance)
            extra = self.recogniser.network.auxiliary_loss(output, labels)
            self.optimiser.zero_grad()
            (loss + config.contrastive * extra).backward()
            torch.nn.utils.clip_grad_norm_(self.recogniser.parameters(), 10.0)
            self.optimiser.step()
            self._update_average(self.epoch * self.steps + step)
            total += float(loss.detach()) * len(picked)
            auxiliary += float(extra.detach()) * len(picked)
            right += int((output.logits.argmax(1) == labels).sum())
            if output.reconstruction is not None and len(picked) > 1:
                spread += float(output.reconstruction.detach().std(0).mean()) / self.steps
        self.epoch += 1
        row: dict[str, Any] = {
            "epoch": self.epoch,
            "lr": round(self.optimiser.param_groups[0]["lr"], 8),
            "train_loss": round(total / n, 6),
            "contrastive_loss": round(auxiliary / n, 6),
            "train_accuracy": round(right / n, 6),
            # Near zero, the prototypes have collapsed: every clip's graph is rebuilt alike.
            "reconstruction_spread": round(spread, 8),
        }
        if not math.isfinite(total):
            raise ConfigError(f"training diverged in epoch {self.epoch} (lower train.lr, it is {config.lr:g})")
        if len(self.val_set):
            row |= self._validate()
        self.history.append(row)
        return row

    def _rate(self, step: int) -> float:
        """Linear rise, then half a cosine."""
        total = self.steps * self.config.epochs
        rise = max(1, int(WARM_UP * total))
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))

    def _update_average(self, step: int) -> None:
        keep = min(math.exp(-1 / (AVERAGE_EPOCHS * self.steps)), (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in self.recogniser.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - keep)
                else:
                    self.average[name].copy_(value)

    def _averaged(self, weights: dict[str, Tensor]) -> NDArray[np.float32]:
        """Probabilities (N, K) of the validation clips under ``weights``."""
        own = {k: v.clone() for k, v in self.recogniser.state_dict().items()}
        self.recogniser.load_state_dict(weights)
        found = self.recogniser.probabilities(self.val)
        self.recogniser.load_state_dict(own)
        return found

    def _validate(self) -> dict[str, float]:
        """Judge the averaged weights; keep them when their class-balanced loss is the lowest so far."""
        p = self._averaged(self.average)
        labels = self.val_set.labels
        chosen = np.clip(p[np.arange(len(p)), labels], 1e-6, 1)
        counts = np.bincount(labels, minlength=len(self.train_set.classes))
        weight = 1 / counts[labels]
        loss = float(-(np.log(chosen) * weight).sum() / weight.sum())
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, self.epoch
            self.best = {k: v.clone() for k, v in self.average.items()}
        self.stopped = self.config.patience > 0 and self.epoch - self.best_epoch >= self.config.patience
        return {"val_loss": round(loss, 6), "val_accuracy": round(float((p.argmax(1) == labels).mean()), 6)}

    def chosen(self) -> dict[str, Tensor]:
        """The averaged weights at the end; with early stopping (``patience``), those that validated best."""
        return self.best if self.best is not None and self.config.patience > 0 else self.average

    def threshold(self) -> float:
        if not len(self.val_set):
            return 0.5
        scores = self._averaged(self.chosen())[:, self.positive]
        found = choose_threshold(scores, self.val_set.labels == self.positive)
        # A few clips say little of where the threshold lies: they move it from one half by their share.
        share = len(scores) / (len(scores) + THRESHOLD_CLIPS)
        return round(0.5 + (found - 0.5) * share, 4)

    def _key(self) -> str:
        """What a state must have been made from to be gone on with."""
        data = hashlib.sha256()
        for clips in (self.train_set, self.val_set):
            for k in clips.keypoints:
                data.update(np.ascontiguousarray(k).tobytes())
            data.update(clips.labels.tobytes())
        told = [asdict(self.config), self.layout.to_dict(), list(self.train_set.classes), self.positive]
        return digest([told, data.hexdigest()])

    def state(self) -> dict[str, Any]:
        return {
            "key": self._key(),
            "epoch": self.epoch,
            "weights": self.recogniser.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "best": self.best,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "history": self.history,
        }

    def resume(self, path: Path) -> None:
        """Go on from a state of the very same run; anything else there is ignored."""
        try:
            state = torch.load(path, weights_only=True)
        except Exception:
            return
        if state.get("key") != self._key():
            return
        self.recogniser.load_state_dict(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.best, self.history = state["average"], state["best"], state["history"]
        self.best_loss, self.best_epoch = state["best_loss"], state["best_epoch"]
        self.epoch, self.stopped = state["epoch"], state["stopped"]
