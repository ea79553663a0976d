"""Dataset → checkpoint → metrics: training (resumed after a crash) and evaluation on the videos held out."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import TrainConfig, canonical
from posewatch.progress import Progress
from posewatch.stages.dataset import read
from posewatch.store import ObjectStore


def home() -> Path:
    """Where this machine keeps what must outlive a crash: POSEWATCH_HOME, else ./.posewatch."""
    return Path(os.environ.get("POSEWATCH_HOME") or ".posewatch")


def train(store: ObjectStore, dataset: Artifact, config: TrainConfig) -> Artifact:
    """Train on a dataset; writes ``checkpoint.pt``, ``history.jsonl`` and ``config.yaml``."""
    job = Job("checkpoints", "", dataclasses.asdict(config), (dataset,))

    def make(folder: Path) -> None:
        # threads that spin while they wait make training several times slower as soon as anything else runs
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from posewatch.recognition.training import train as fit

        with Progress("train", config.epochs, "epoch") as progress:
            fit(
                read(dataset, "train"),
                read(dataset, "validation"),
                config,
                folder,
                positive=dataset.json("dataset.json")["positive"],
                progress=progress,
            )

    return produce(store, job, make, work=home() / "work" / job.recipe)


def evaluate(store: ObjectStore, dataset: Artifact, checkpoint: Artifact) -> Artifact:
    """Measure a checkpoint on the test part; writes ``metrics.json`` and plots, with classical baselines beside it."""
    job = Job("evaluations", "", {}, (dataset, checkpoint))

    def make(folder: Path) -> None:
        import json

        from posewatch.recognition.evaluation import evaluate as measure
        from posewatch.recognition.evaluation import plots
        from posewatch.recognition.training import load_checkpoint

        with Progress("evaluate", 1, "model") as progress, tempfile.TemporaryDirectory() as temp:
            recogniser = load_checkpoint(checkpoint.fetch("checkpoint.pt", Path(temp)))
            metrics = measure(recogniser, read(dataset, "test"), train_set=read(dataset, "train"))
            history = [json.loads(line) for line in checkpoint.read("history.jsonl").splitlines()]
            (folder / "metrics.json").write_text(canonical(metrics) + "\n", encoding="utf-8")
            plots(metrics, history, folder)
            progress.advance()

    return produce(store, job, make)
