"""Training: clips per second of the recipe, whether data keep up, and what half precision does to the answers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posewatch.bench.gpu.card import Card, arithmetic
from posewatch.bench.gpu.forms import arranged
from posewatch.bench.gpu.scale import Scale
from posewatch.bench.gpu.serving import answers
from posewatch.bench.protogcn_published import publish
from posewatch.config import TrainConfig, load
from posewatch.datasets import layouts
from posewatch.datasets.clipset import ClipSet
from posewatch.errors import first_line
from posewatch.progress import Progress, say
from posewatch.recognition.models.protogcn.network import ProtoGCN
from posewatch.recognition.recogniser import Recogniser, load_checkpoint
from posewatch.recognition.sampling import fitting
from posewatch.recognition.training.batches import Batches, DeviceBatches, HostBatches
from posewatch.recognition.training.trainer import Losses, optimiser_of, place_gradients, train


def recipe(scale: Scale, **changes: Any) -> TrainConfig:
    """The published recipe (configs/paper.yaml) at the size that is measured."""
    paper = load("paper").train
    fields = {"width": scale.width, "clip_frames": scale.frames, "people": 2, "epochs": scale.train_epochs}
    return replace(paper, **(fields | changes))


def measure(
    card: Card, scale: Scale, left: Callable[[], float], train_set: ClipSet, test_set: ClipSet
) -> dict[str, Any]:
    """Clips per second of training steps, of making batches, and of real epochs; accuracy by precision."""
    steps: list[dict[str, Any]] = []
    left_out: list[str] = []
    plans = [("published order", "fp32", False), ("ours", "fp32", False)]
    if card.cuda:
        plans += [("published order", "tf32", False), ("ours", "tf32", False), ("ours", "bf16", False)]
        plans += [("ours, torch.compile", "bf16", True)] if scale.compiled else []
    for batch in scale.train_batches:
        for name, precision, compiled in plans:
            label = f"training, {name}, {precision}, batch {batch}"
            if left() < 0:
                left_out.append(f"{label}: no time left")
                continue
            row = None
            try:
                row = _steps(card, scale, train_set, name, precision, batch, compiled)
            except Exception as error:  # too little memory for one form must not end the others
                left_out.append(f"{label}: {first_line(error)[:160]}")
            card.release()
            if row is None:
                continue
            steps.append({"form": name, "precision": precision, "batch": batch, **row})
            say(f"{label}: {row['clips_per_s']:,.0f} clips/s")
    result: dict[str, Any] = {"steps": steps, "left_out": left_out, "loader": _loader(card, scale, train_set)}
    if left() < 0:
        left_out.append("training for real: no time left")
        return result
    try:
        result["epochs"] = _epochs(card, scale, train_set, test_set, steps)
    except Exception as error:
        left_out.append(f"training for real: {first_line(error)[:160]}")
    return result


def _steps(
    card: Card, scale: Scale, clips: ClipSet, name: str, precision: str, batch: int, compiled: bool
) -> dict[str, Any]:
    """Steps on one batch that lies on the device: forward, backward and optimiser, nothing to wait for."""
    config = recipe(scale, batch=batch, precision="bf16" if precision == "bf16" else "fp32")
    torch.manual_seed(0)
    layout = layouts.get(config.layout or clips.layout)
    recogniser = Recogniser(config, layout, clips.classes, clips.classes[-1], clips.fps).to(card.device)
    if name.startswith("published"):
        for network in recogniser.networks:
            if isinstance(network, ProtoGCN):
                publish(network)
    recogniser.train()
    losses = Losses(recogniser, config, torch.ones(len(clips.classes), device=card.device))
    place_gradients(recogniser)
    optimiser = optimiser_of(recogniser, config)
    picked = np.arange(batch) % len(clips)
    x = HostBatches(clips, config, card.device).batch(picked, [[0, 0, i] for i in range(batch)])
    labels = torch.from_numpy(clips.labels[picked]).to(card.device)
    forward: nn.Module = torch.compile(losses) if compiled else losses  # type: ignore[assignment]

    def step() -> Tensor:
        optimiser.zero_grad(set_to_none=False)
        loss: Tensor = forward(x, labels)[0]
        loss.backward()
        optimiser.step()
        return loss

    begin = time.perf_counter()
    with arithmetic("tf32" if precision == "bf16" else precision):
        timing = card.timed(step, scale.seconds)
    return {
        "clips_per_s": round(timing.rate(batch), 2),
        "step_ms": round(timing.ms(50), 3),
        "busy": _rounded(card.busy(step)),
        "memory_gib": card.peak_memory(),
        "prepared_s": round(time.perf_counter() - begin - sum(timing.seconds), 1),
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 3)


def _loader(card: Card, scale: Scale, clips: ClipSet) -> list[dict[str, Any]]:
    """Clips per second that each way of making batches reaches alone."""
    rows = []
    batch = scale.train_batches[-1]
    config = recipe(scale, batch=batch)
    makers: list[tuple[str, Batches]] = [
        ("one Python thread", HostBatches(clips, config, card.device)),
        ("on the device", DeviceBatches(clips, config, card.device)),
    ]
    rng = np.random.default_rng(0)
    for name, maker in makers:
        picked = rng.integers(0, len(clips), batch)
        seeds = [[0, 0, i] for i in range(batch)]
        timing = card.timed(lambda: maker.batch(picked, seeds), scale.seconds)  # noqa: B023 - called at once
        rows.append({"loader": name, "batch": batch, "clips_per_s": round(timing.rate(batch), 1)})
    return rows


class _Clock(Progress):
    """The moment at which each epoch ended."""

    def __init__(self) -> None:
        super().__init__("epochs", 0)
        self.moments = [time.perf_counter()]

    def advance(self, count: int = 1, note: str = "", *, before: bool = False) -> None:
        self.moments.append(time.perf_counter())


def _epochs(
    card: Card, scale: Scale, train_set: ClipSet, test_set: ClipSet, steps: list[dict[str, Any]]
) -> dict[str, Any]:
    """Real epochs of the trainer, loader and augmentation included, and the trained network's answers by precision."""
    batch = scale.train_batches[-1]
    precision = "bf16" if card.cuda else "fp32"
    config = recipe(
        scale, batch=batch, precision=precision, device=card.device.type, optimiser="adamw", lr=0.002,
        weight_decay=5e-4, features="body", augment=load("default").train.augment,
    )  # fmt: skip
    clock = _Clock()
    with tempfile.TemporaryDirectory(prefix="posewatch-gpu-") as temp, arithmetic("tf32"):
        checkpoint = train(
            train_set, train_set.subset([]), config, Path(temp), positive=train_set.classes[-1],
            allow_shared=True, progress=clock,
        )  # fmt: skip
        recogniser = load_checkpoint(checkpoint)
    seconds = np.diff(clock.moments)
    clips = batch * max(8, -(-len(train_set) // batch))
    rate = clips / float(np.median(seconds[1:] if len(seconds) > 1 else seconds))  # the first one warms up
    same = [row for row in steps if (row["form"], row["precision"], row["batch"]) == ("ours", precision, batch)]
    result: dict[str, Any] = {
        "precision": precision, "batch": batch, "clips_per_s": round(rate, 1),
        # what a step on a batch that lies ready does not explain: loader, augmentation, averaged weights
        "share_besides_steps": round(max(0.0, 1 - rate / same[0]["clips_per_s"]), 3) if same else None,
        "test_clips": len(test_set), "accuracy": [],
    }  # fmt: skip
    keypoints = fitting(test_set.keypoints, recogniser)
    exact = None
    for name in ("fp32", "tf32", "bf16", "fp16") if card.cuda else ("fp32", "bf16"):
        with arithmetic(name):
            p = answers(arranged(recogniser, card.device, name), keypoints, card.device)
        exact = p if exact is None else exact
        result["accuracy"].append(
            {
                "precision": name,
                "accuracy": round(float((p.argmax(1) == test_set.labels).mean()), 4),
                "same_answers": round(float((p.argmax(1) == exact.argmax(1)).mean()), 4),
                "largest_difference": float(f"{np.abs(p - exact).max():.2g}"),
            }
        )
    return result
