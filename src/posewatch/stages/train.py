"""Dataset → checkpoint → metrics: training (resumed after a crash) and evaluation on the videos held out."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import TrainConfig, TrainerConfig
from posewatch.stages.contents import read
from posewatch.store import ObjectStore

if TYPE_CHECKING:
    from posewatch.recognition.training.mlflow import Tracker


def home() -> Path:
    """Where this machine keeps what must outlive a crash: POSEWATCH_HOME, else ./.posewatch."""
    return Path(os.environ.get("POSEWATCH_HOME") or ".posewatch")


def train(store: ObjectStore, dataset: Artifact, config: TrainConfig, trainer: TrainerConfig | None = None) -> Artifact:
    """Train on a dataset; writes ``checkpoint.pt``, ``history.jsonl`` and ``config.yaml``.

    With ``trainer.nodes`` or ``trainer.gpus`` a job of the cluster does it (JobError when it fails). In the processes
    that ``torchrun`` starts, all of them call this and train together.
    """
    job = Job("checkpoints", "", dataclasses.asdict(config), (dataset,), revision=2)
    trainer = trainer or TrainerConfig()
    if "WORLD_SIZE" in os.environ:
        from posewatch.stages.together import train_together

        return train_together(store, job, dataset, config, home() / "work" / job.recipe, trainer.checkpoint_s)
    if trainer.remote:
        from posewatch.kube.trainjob import train_on_cluster

        return train_on_cluster(store, job, dataset, config, trainer)
    return produce(store, job, lambda folder: run(dataset, config, folder), work=home() / "work" / job.recipe)


def run(
    dataset: Artifact, config: TrainConfig, folder: Path, around: Callable[[Tracker], Tracker] | None = None
) -> None:
    """Train into ``folder``, or go on with what is there. ``around`` wraps the tracker that is told of every epoch."""
    # threads that spin while they wait make training several times slower as soon as anything else runs
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from posewatch.datasets.split import HoldOut
    from posewatch.recognition import distributed as parallel
    from posewatch.recognition.training.holdout import fit
    from posewatch.recognition.training.mlflow import FilesOnly, open_tracker
    from posewatch.recognition.training.trainer import plain

    known, unseen = read(dataset, "train"), read(dataset, "validation")
    n, m = len(known), len(unseen)
    held = HoldOut(np.arange(n), np.arange(n, n + m)) if m else None
    positive = dataset.json("dataset.json")["positive"]
    tracker: Tracker = open_tracker(folder) if parallel.rank() == 0 else FilesOnly()
    tracker.start(plain(config))
    if around is not None:
        tracker = around(tracker)
    how = fit(known.joined(unseen), config, folder, positive=positive, held=held, tracker=tracker)
    tracker.finish({}, [folder / "checkpoint.pt", folder / "config.yaml"])
    if parallel.writer():
        for name in filter(None, how.names):
            shutil.rmtree(folder / name)
