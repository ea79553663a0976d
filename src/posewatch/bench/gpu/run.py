"""The whole measurement, part by part; each part's figures are on disk before the next begins."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from posewatch.bench.gpu import perception, served, serving, training
from posewatch.bench.gpu.acts import sets_of
from posewatch.bench.gpu.card import Card
from posewatch.bench.gpu.report import write
from posewatch.bench.gpu.scale import DRY, FULL
from posewatch.errors import InputError, PosewatchError, first_line
from posewatch.files import write_atomically
from posewatch.progress import say

PARTS = ("serving", "served", "training", "perception")
SHARES = {"serving": 0.4, "served": 0.6, "training": 0.8, "perception": 1.0}
"""The share of the whole time by which each part must be through; what is left goes to the next one."""


def bench_gpu(
    out: Path,
    *,
    dry: bool = False,
    parts: Sequence[str] = PARTS,
    annotations: Path | None = None,
    endpoint: str = "",
    rtmo: Path | None = None,
    minutes: float | None = None,
) -> str:
    """Write gpu.json, gpu.md and plots to ``out``; returns the Markdown.

    ``dry`` runs everything on the CPU at tiny sizes. ``annotations`` are labelled clips (pyskl, with splits) for the
    accuracy in half precision, ``endpoint`` a Triton that is measured in place of the small server, ``rtmo`` an ONNX
    file. A part that fails is named in the report. Raises InputError without a GPU, unless ``dry``.
    """
    if not dry and not torch.cuda.is_available():
        raise InputError(
            "torch finds no GPU here: --dry-run shows on the CPU that everything works (its figures mean nothing)"
        )
    scale = DRY if dry else FULL
    card = Card("cpu" if dry else "cuda", scale.peak_side)
    if dry:
        torch.set_num_threads(1)  # two threads on busy cores wait for each other
    result: dict[str, Any] = {"about": card.about, "dry_run": dry, "failed": []}
    begin = time.monotonic()
    budget = scale.budget_s if minutes is None else minutes * 60
    train_set, test_set = sets_of(annotations, scale.train_clips, scale.frames)
    what: dict[str, Callable[[Callable[[], float]], dict[str, Any]]] = {
        "serving": lambda left: serving.measure(card, scale, left),
        "served": lambda left: served.measure(card, scale, left, endpoint),
        "training": lambda left: training.measure(card, scale, left, train_set, test_set),
        "perception": lambda left: perception.measure(card, scale, left, rtmo),
    }
    for part in [part for part in PARTS if part in parts]:
        end = begin + budget * SHARES[part]
        say(f"{part}: {max(0.0, end - time.monotonic()):.0f} s at most")
        started = time.monotonic()
        try:
            result[part] = what[part](lambda: end - time.monotonic())  # noqa: B023 - called before the next part
            result[part]["seconds"] = round(time.monotonic() - started, 1)
        except (Exception, PosewatchError) as error:
            result["failed"].append(f"{part}: {first_line(error)[:300]}")
        card.release()
        write_atomically(out / "gpu.json", json.dumps(result, indent=1) + "\n")
    return write(result, out)
