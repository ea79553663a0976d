"""One experiment on labelled skeletons: hold out, train, measure beside baselines, and write it all to one folder.

The threshold comes from people whom the network has not seen, though few clips are too few to leave a fifth of them
unused: either one training holds out whole subjects and chooses it, and a second one uses all clips with that threshold
(``train.refit``), or several networks each leave out a fold of the subjects (``train.folds``), are judged on it, and
answer together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from posewatch import layouts
from posewatch.config import TrainConfig, canonical
from posewatch.errors import LabelError
from posewatch.layouts import Layout
from posewatch.progress import Progress
from posewatch.recognition import parallel, training
from posewatch.recognition.dataset import ClipSet
from posewatch.recognition.ensemble import combine
from posewatch.recognition.evaluation import evaluate, plots
from posewatch.recognition.recogniser import load_checkpoint, write_atomically
from posewatch.recognition.split import HoldOut, folds, hold_out
from posewatch.recognition.tracking import FilesOnly, open_tracker

CHECKPOINT, HISTORY, METRICS = "checkpoint.pt", "history.jsonl", "metrics.json"
MEMBER_SEED = 1000
"""What lies between the seeds of an ensemble's members: more than between those that people choose."""


def positive_of(classes: Sequence[str], wanted: str | None = None) -> str:
    """The class that raises alerts: the one asked for, "abnormal", the second of two, or none of many ("")."""
    if wanted is not None:
        if wanted and wanted not in classes:
            raise LabelError(f"the positive class {wanted!r} is none of {', '.join(classes)}")
        return wanted
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
    """Train on ``train_set`` and measure on ``test_set``; returns what ``metrics.json`` holds.

    Writes ``checkpoint.pt``, ``metrics.json``, ``config.yaml``, ``history.jsonl``, ``predictions.jsonl`` and plots to
    ``out``. Run again after a kill it goes on; run again when it is done it only reads. Raises InputError, LabelError
    or ConfigError for what cannot be trained on.
    """
    layout = layout or layouts.get(config.layout or train_set.layout)
    training.check(train_set, train_set.subset([]), config, positive, layout)
    main = parallel.rank() == 0
    out.mkdir(parents=True, exist_ok=True)
    tracker = open_tracker(out) if main else FilesOnly()
    tracker.start(training.plain(config))
    plan = _plan(train_set, config, positive)
    with Progress("train", config.epochs * len(plan.parts), "epoch") as progress:

        def train(k: int, threshold: float | None = None) -> Path:
            part, name = plan.parts[k], plan.names[k]
            return training.train(
                train_set.subset(part.train),
                train_set.subset(part.validation),
                replace(config, seed=config.seed + MEMBER_SEED * k) if plan.members else config,
                out / name,
                positive=positive,
                layout=layout,
                threshold=threshold,
                allow_shared=True,
                progress=progress,
                tracker=tracker.section(name) if name else tracker,
            )

        if plan.members:
            paths = [train(k) for k in range(len(plan.parts))]
            if main:
                _join(train_set, plan, paths, positive, config, out)
        elif len(plan.parts) == 2:
            train(1, load_checkpoint(train(0)).threshold)
        else:
            train(0)
    if not main:
        return {}
    recogniser = load_checkpoint(out / CHECKPOINT).to(training.device_of(config))
    metrics = evaluate(recogniser, test_set, positive, train_set=train_set)
    held = plan.parts if plan.members else plan.parts[:1]
    metrics["validation"] = {
        "clips": sum(len(part.validation) for part in held),
        "groups": sorted({train_set.groups[i] for part in held for i in part.validation}),
        "method": plan.method,
        "note": " ".join(sorted({part.note for part in held if part.note})),
    }
    if note:
        metrics["note"] = " ".join(filter(None, [metrics.get("note", ""), note]))
    history = [json.loads(row) for row in (out / plan.names[0] / HISTORY).read_text().splitlines()]
    p = recogniser.score(test_set)
    lines = [
        {
            "clip": name,
            "label": test_set.classes[k],
            "called": test_set.classes[c],
            "p": [round(float(v), 6) for v in row],
        }
        for name, k, c, row in zip(test_set.ids, test_set.labels, recogniser.decide(p), p, strict=True)
    ]
    write_atomically(out / "predictions.jsonl", "".join(canonical(line) + "\n" for line in lines).encode())
    plots(metrics, history, out)
    write_atomically(out / METRICS, (json.dumps(metrics, indent=1, sort_keys=True) + "\n").encode())
    tracker.finish(metrics, [p for p in sorted(out.iterdir()) if p.is_file() and not p.name.startswith(".")])
    return metrics


@dataclass(frozen=True)
class _Plan:
    """Which clips the trainings of an experiment fit on and judge on, in what folders, and how in words."""

    parts: tuple[HoldOut, ...]
    names: tuple[str, ...]
    method: str
    members: bool = False
    """All trainings are members of an ensemble; else the last one is the result."""


def _plan(train_set: ClipSet, config: TrainConfig, positive: str) -> _Plan:
    everything = HoldOut(np.arange(len(train_set)), np.arange(0))
    if config.folds >= 2:
        parts = tuple(folds(train_set, config.folds, config.seed))
        if len(parts) > 1:
            names = tuple(f"member{k}" for k in range(len(parts)))
            return _Plan(parts, names, f"{len(parts)} networks, each judged on the people it has not seen", True)
    # Without a threshold to choose and an epoch to stop at, nothing needs to be held out.
    if config.validation <= 0 or not (positive or config.patience > 0):
        return _Plan((everything,), ("",), "nothing was held out: there is no threshold to choose")
    held = hold_out(train_set, config.validation, config.seed)
    if not len(held.validation):
        return _Plan((held,), ("",), "nothing could be held out")
    if not (config.refit and positive):
        return _Plan((held,), ("",), "one network, judged on people held out")
    return _Plan((held, everything), ("validation", ""), "threshold from people held out, then trained on all clips")


def _join(train_set: ClipSet, plan: _Plan, paths: list[Path], positive: str, config: TrainConfig, out: Path) -> None:
    """Make one checkpoint of the members, with the threshold that suits each one's unseen people best."""
    scores = np.zeros((len(train_set), len(train_set.classes)), np.float32)
    for part, path in zip(plan.parts, paths, strict=True):
        member = load_checkpoint(path).to(training.device_of(config))
        scores[part.validation] = member.score(train_set.subset(part.validation))
    threshold = None
    if positive:
        index = train_set.classes.index(positive)
        odds = training.odds_of(train_set, index, config)
        threshold = training.shrunk_threshold(scores[:, index], train_set.labels == index, odds)
    combine(paths, out / CHECKPOINT, threshold=threshold)
    rows = []
    for name in plan.names:
        rows += [{"member": name, **json.loads(row)} for row in (out / name / HISTORY).read_text().splitlines()]
    write_atomically(out / HISTORY, "".join(canonical(row) + "\n" for row in rows).encode())
    write_atomically(out / "config.yaml", training.text(config).encode())


def summary(runs: dict[str, dict[str, Any]], out: Path) -> dict[str, Any]:
    """Mean and spread of several runs' metrics (seeds, folds), also written to ``out/metrics.json``."""
    keys = [
        key
        for key in next(iter(runs.values()))
        if all(isinstance(m.get(key), int | float) and not isinstance(m.get(key), bool) for m in runs.values())
    ]
    told: dict[str, Any] = {"runs": {name: {key: m[key] for key in keys} for name, m in runs.items()}}
    for key in keys:
        values = [m[key] for m in runs.values()]
        told[key] = round(float(np.mean(values)), 6)
        told[f"{key}_std"] = round(float(np.std(values)), 6)
    write_atomically(out / METRICS, (json.dumps(told, indent=1, sort_keys=True) + "\n").encode())
    return told


def table(metrics: dict[str, Any]) -> str:
    """What a person wants to see first: the network beside its baselines."""
    rows: list[tuple[str, ...]] = [("", "accuracy", "precision", "recall", "F1", "AUC")]
    for prefix, name in (("", "network"), ("baseline_forest_", "random forest"), ("baseline_logistic_", "logistic")):
        values = [metrics.get(f"{prefix}{key}") for key in ("accuracy", "precision", "recall", "f1", "auc")]
        if any(v is not None for v in values):
            rows.append((name, *("-" if v is None else f"{v:.3f}" for v in values)))
    return "\n".join("".join(f"{cell:<14}" if i == 0 else f"{cell:>10}" for i, cell in enumerate(row)) for row in rows)
