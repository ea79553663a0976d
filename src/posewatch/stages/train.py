"""Dataset → checkpoint → metrics: training (resumed after a crash) and evaluation on the videos held out."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import RobustnessConfig, TrainConfig, canonical
from posewatch.progress import Progress
from posewatch.stages.dataset import read
from posewatch.store import ObjectStore


def home() -> Path:
    """Where this machine keeps what must outlive a crash: POSEWATCH_HOME, else ./.posewatch."""
    return Path(os.environ.get("POSEWATCH_HOME") or ".posewatch")


def train(store: ObjectStore, dataset: Artifact, config: TrainConfig) -> Artifact:
    """Train on a dataset; writes ``checkpoint.pt``, ``history.jsonl`` and ``config.yaml``."""
    job = Job("checkpoints", "", dataclasses.asdict(config), (dataset,), revision=2)

    def make(folder: Path) -> None:
        # threads that spin while they wait make training several times slower as soon as anything else runs
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from posewatch.recognition.fit import fit
        from posewatch.recognition.split import HoldOut
        from posewatch.recognition.tracking import open_tracker
        from posewatch.recognition.training import plain

        known, unseen = read(dataset, "train"), read(dataset, "validation")
        n, m = len(known), len(unseen)
        held = HoldOut(np.arange(n), np.arange(n, n + m)) if m else None
        positive = dataset.json("dataset.json")["positive"]
        tracker = open_tracker(folder)
        tracker.start(plain(config))
        how = fit(known.joined(unseen), config, folder, positive=positive, held=held, tracker=tracker)
        tracker.finish({}, [folder / "checkpoint.pt", folder / "config.yaml"])
        for name in filter(None, how.names):
            shutil.rmtree(folder / name)

    return produce(store, job, make, work=home() / "work" / job.recipe)


def evaluate(
    store: ObjectStore, dataset: Artifact, checkpoint: Artifact, robustness: RobustnessConfig | None = None
) -> Artifact:
    """Measure a checkpoint on the test part; writes ``metrics.json`` and plots, with classical baselines beside it.

    With ``robustness.draws`` it writes ``robustness.json`` and ``robustness.png``, too.
    """
    draws = robustness.draws if robustness else 0
    job = Job("evaluations", "", {"robustness_draws": draws} if draws else {}, (dataset, checkpoint), revision=2)

    def make(folder: Path) -> None:
        from posewatch.recognition import robustness as robust
        from posewatch.recognition.evaluation import evaluate as measure
        from posewatch.recognition.evaluation import plots
        from posewatch.recognition.fit import curve
        from posewatch.recognition.training import load_checkpoint

        with tempfile.TemporaryDirectory() as temp:
            recogniser = load_checkpoint(checkpoint.fetch("checkpoint.pt", Path(temp)))
        count = 1 + (robust.steps(recogniser, draws) if draws else 0)
        with Progress("evaluate", count, "scoring") as progress:
            test_set, train_set = read(dataset, "test"), read(dataset, "train")
            metrics = measure(recogniser, test_set, train_set=train_set)
            history = curve(checkpoint.lines("history.jsonl"))
            (folder / "metrics.json").write_text(canonical(metrics) + "\n", encoding="utf-8")
            plots(metrics, history, folder)
            progress.advance()
            if draws:
                robust.robustness(recogniser, test_set, folder, train_set=train_set, draws=draws, progress=progress)

    return produce(store, job, make)
