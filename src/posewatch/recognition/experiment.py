"""One experiment on labelled skeletons: hold out, train, measure beside baselines, and write it all to one folder.

The threshold comes from people whom the network has not seen: a first training holds out whole subjects of the
training split and chooses it, a second one uses all clips with that threshold (``train.refit``). Few clips are too few
to leave a fifth of them unused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from posewatch.recognition.evaluation import evaluate, plots
from posewatch.recognition.recogniser import load_checkpoint, write_atomically
from posewatch.recognition.subjects import hold_out
from posewatch.recognition.tracking import open_tracker

METRICS = "metrics.json"


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
    tracker = open_tracker(out) if main else None
    if tracker is not None:
        tracker.start(training.plain(config))
    # Without a threshold to choose and an epoch to stop at, nothing needs to be held out.
    wanted = config.validation > 0 and (bool(positive) or config.patience > 0)
    held = hold_out(train_set, config.validation, config.seed) if wanted else None
    fit = train_set.subset(held.train) if held else train_set
    val = train_set.subset(held.validation) if held else train_set.subset([])
    twice = config.refit and len(val) > 0 and bool(positive)
    with Progress("train", config.epochs * (1 + twice), "epoch") as progress:

        def train(a: ClipSet, b: ClipSet, folder: Path, threshold: float | None = None) -> Path:
            told = tracker.section("validation") if tracker is not None and folder != out else tracker
            return training.train(
                a, b, config, folder,
                positive=positive, layout=layout, threshold=threshold, progress=progress, tracker=told,
            )  # fmt: skip

        threshold = load_checkpoint(train(fit, val, out / "validation")).threshold if twice else None
        path = train(train_set, train_set.subset([]), out, threshold) if twice else train(fit, val, out)
    if not main:
        return {}
    recogniser = load_checkpoint(path).to(training.device_of(config))
    metrics = evaluate(recogniser, test_set, positive, train_set=train_set)
    metrics["validation"] = {
        "clips": len(val),
        "groups": sorted(set(val.groups)),
        "refit": twice,
        "note": held.note if held else "nothing was held out: there is no threshold to choose",
    }
    if note:
        metrics["note"] = " ".join(filter(None, [metrics.get("note", ""), note]))
    folders = [out / "validation", out] if twice else [out]
    histories = [[json.loads(row) for row in (f / "history.jsonl").read_text().splitlines()] for f in folders]
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
    plots(metrics, histories[0], out)
    write_atomically(out / METRICS, (json.dumps(metrics, indent=1, sort_keys=True) + "\n").encode())
    if tracker is not None:
        tracker.finish(metrics, [p for p in sorted(out.iterdir()) if p.is_file() and not p.name.startswith(".")])
    return metrics


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
