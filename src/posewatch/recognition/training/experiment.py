"""One experiment on labelled skeletons: train, evaluate beside baselines, and write everything to one folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.config import TrainConfig
from posewatch.datasets import layouts
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.layouts import Layout
from posewatch.digests import canonical
from posewatch.errors import LabelError
from posewatch.files import write_atomically
from posewatch.names import known_as
from posewatch.recognition import distributed as parallel
from posewatch.recognition.evaluation.evaluate import evaluate
from posewatch.recognition.evaluation.plots import plots
from posewatch.recognition.recogniser import load_checkpoint
from posewatch.recognition.training import trainer as training
from posewatch.recognition.training.checks import check
from posewatch.recognition.training.holdout import CHECKPOINT, HISTORY, curve, fit, read_history
from posewatch.recognition.training.mlflow import Tracker, open_tracker
from posewatch.recognition.training.pretrained import Pretrained

METRICS = "metrics.json"
FILES = (
    CHECKPOINT, METRICS, "config.yaml", HISTORY, "predictions.jsonl", "confusion_matrix.png", "learning_curves.png",
    "roc.png", "reliability.png", "risk_coverage.png",
)  # fmt: skip
"""What ``run`` writes into its folder."""


def files(config: TrainConfig) -> list[str]:
    """The names of everything that ``run`` writes into its folder, the trainings that choose a threshold included."""
    parts = [f"member{k}" for k in range(config.folds)] if config.folds >= 2 else ["validation"]
    return [*FILES, *(f"{part}/{name}" for part in parts for name in (CHECKPOINT, HISTORY, "config.yaml"))]


@dataclass(frozen=True)
class Part:
    """Clips to train on and to test on; ``name`` is that of the training split, ``note`` a remark on the two."""

    name: str
    train: ClipSet
    test: ClipSet
    note: str = ""


@dataclass(frozen=True)
class Task:
    """What experiments on one file have in common: its parts, the class that raises alerts, the data's own layout."""

    parts: tuple[Part, ...]
    positive: str
    layout: Layout

    def layout_for(self, config: TrainConfig) -> Layout:
        """The data's own layout, or one that adds virtual joints to it."""
        return layouts.get(config.layout) if config.layout else self.layout

    def folders(self, seeds: Sequence[int], out: Path) -> dict[tuple[int, str], Path]:
        """(seed, part) → its folder: ``out`` itself where there is one only."""
        return {
            (seed, part.name): out.joinpath(*[f"seed{seed}"] * (len(seeds) > 1), *[part.name] * (len(self.parts) > 1))
            for seed in seeds
            for part in self.parts
        }

    def run(self, part: Part, config: TrainConfig, seed: int, out: Path) -> dict[str, Any]:
        """``run`` on one part."""
        return run(
            part.train,
            part.test,
            replace(config, seed=seed),
            out,
            positive=self.positive,
            layout=self.layout_for(config),
            note=part.note,
        )


def positive_of(classes: Sequence[str], wanted: str | None = None) -> str:
    """The class that raises alerts: ``wanted``, else "abnormal", else the second of two, else none ("")."""
    if wanted is not None:
        found = known_as(wanted, classes)
        if wanted and found is None:
            raise LabelError(f"the positive class {wanted!r} is none of {', '.join(classes)}")
        return found or ""
    if "abnormal" in classes:
        return "abnormal"
    return classes[1] if len(classes) == 2 else ""


def run(
    train_set: ClipSet,
    test_set: ClipSet,
    config: TrainConfig,
    out: Path,
    *,
    positive: str,
    layout: Layout | None = None,
    note: str = "",
) -> dict[str, Any]:
    """Train on ``train_set`` and evaluate on ``test_set``; returns the contents of ``metrics.json``.

    Writes ``checkpoint.pt``, ``metrics.json``, ``config.yaml``, ``history.jsonl``, ``predictions.jsonl`` and plots to
    ``out``. A killed run goes on when it is called again; a finished one is only read. Raises InputError, LabelError or
    ConfigError for data or settings that cannot be trained on.
    """
    main = parallel.rank() == 0
    tracker = open_tracker(out) if main else Tracker()
    layout = layout or layouts.get(config.layout or train_set.layout)
    check(train_set, train_set.subset([]), config, positive, layout)
    tracker.start(training.plain(config))
    begin = Pretrained(config.pretrained) if config.pretrained else None
    plan = fit(train_set, config, out, positive=positive, layout=layout, tracker=tracker, begin=begin)
    if not main:
        return {}
    recogniser = load_checkpoint(out / CHECKPOINT).to(training.device_of(config))
    metrics = evaluate(recogniser, test_set, positive, train_set=train_set)
    metrics["validation"] = {
        "clips": sum(len(part.validation) for part in plan.judged),
        "groups": sorted({train_set.groups[i] for part in plan.judged for i in part.validation}),
        "method": plan.method,
        "note": " ".join(sorted({part.note for part in plan.judged if part.note})),
    }
    if note:
        metrics["note"] = " ".join(filter(None, [metrics.get("note", ""), note]))
    p = recogniser.score(test_set)
    lines = [
        {
            "clip": name,
            "label": test_set.classes[k],
            "predicted": test_set.classes[c],
            "p": [round(float(v), 6) for v in row],
        }
        for name, k, c, row in zip(test_set.ids, test_set.labels, recogniser.decide(p), p, strict=True)
    ]
    write_atomically(out / "predictions.jsonl", "".join(canonical(line) + "\n" for line in lines).encode())
    history = read_history(out / HISTORY)
    plots(metrics, curve(history), out)
    write_atomically(out / METRICS, (json.dumps(metrics, indent=1, sort_keys=True) + "\n").encode())
    tracker.finish(metrics, [p for p in sorted(out.iterdir()) if p.is_file() and not p.name.startswith(".")])
    return metrics


def mean_of(runs: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Mean and spread (``_std``) of the numbers that all of several runs' metrics have."""
    result = {}
    for key in _numbers(runs):
        values = [m[key] for m in runs.values()]
        result[key] = round(float(np.mean(values)), 6)
        result[f"{key}_std"] = round(float(np.std(values)), 6)
    return result


def _numbers(runs: dict[str, dict[str, Any]]) -> list[str]:
    return [
        key
        for key in next(iter(runs.values()))
        if all(isinstance(m.get(key), int | float) and not isinstance(m.get(key), bool) for m in runs.values())
    ]


def summary(runs: dict[str, dict[str, Any]], out: Path) -> dict[str, Any]:
    """Mean and spread of several runs' metrics (seeds, folds), also written to ``out/metrics.json``."""
    keys = _numbers(runs)
    result = {"runs": {name: {key: m[key] for key in keys} for name, m in runs.items()}, **mean_of(runs)}
    write_atomically(out / METRICS, (json.dumps(result, indent=1, sort_keys=True) + "\n").encode())
    return result
