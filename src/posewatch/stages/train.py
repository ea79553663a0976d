"""Dataset → checkpoint. Training goes on after a crash, and may run as a job of the cluster."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import TrainConfig, TrainerConfig
from posewatch.files import home
from posewatch.stages.contents import CHECKPOINT, dataset_about, dataset_part
from posewatch.store import ObjectStore

if TYPE_CHECKING:
    from posewatch.recognition.training.mlflow import Tracker


def train(store: ObjectStore, dataset: Artifact, config: TrainConfig, trainer: TrainerConfig | None = None) -> Artifact:
    """Train on a dataset; writes ``checkpoint.pt``, ``history.jsonl`` and ``config.yaml``.

    With ``trainer.nodes`` or ``trainer.gpus`` a job of the cluster trains (JobError when it fails). In processes that
    ``torchrun`` started, every process calls this, and they train one model.
    """
    job = Job("checkpoints", "", dataclasses.asdict(config), (dataset,), revision=2)
    trainer = trainer or TrainerConfig()
    # POSEWATCH_HOME has what must outlive a crash
    work = home() / "work" / job.fingerprint
    if "WORLD_SIZE" in os.environ:
        from posewatch.stages.train_distributed import train_distributed

        return train_distributed(store, job, functools.partial(_train, dataset, config), work, trainer.checkpoint_s)
    if trainer.remote:
        from posewatch.kube.trainjob import train_on_cluster

        return train_on_cluster(store, job, dataset, config, trainer)
    return produce(store, job, lambda folder: _train(dataset, config, folder), work=work)


def _train(
    dataset: Artifact, config: TrainConfig, folder: Path, wrap: Callable[[Tracker], Tracker] | None = None
) -> None:
    """Train into ``folder``, or resume the training there. ``wrap`` wraps the experiment tracker."""
    # threads that spin while they wait make training several times slower as soon as anything else runs
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from posewatch.datasets.split import HoldOut
    from posewatch.recognition import distributed
    from posewatch.recognition.training.holdout import fit
    from posewatch.recognition.training.mlflow import Tracker, open_tracker
    from posewatch.recognition.training.trainer import plain

    train_set, validation_set = dataset_part(dataset, "train"), dataset_part(dataset, "validation")
    n, m = len(train_set), len(validation_set)
    held = HoldOut(np.arange(n), np.arange(n, n + m)) if m else None
    tracker: Tracker = open_tracker(folder) if distributed.rank() == 0 else Tracker()
    tracker.start(plain(config))
    if wrap is not None:
        tracker = wrap(tracker)
    positive = dataset_about(dataset)["positive"]
    trained = fit(train_set.joined(validation_set), config, folder, positive=positive, held=held, tracker=tracker)
    tracker.finish({}, [folder / CHECKPOINT, folder / "config.yaml"])
    if distributed.writer():
        for name in filter(None, trained.names):
            shutil.rmtree(folder / name)
