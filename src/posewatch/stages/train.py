"""Dataset → checkpoint. Training goes on after a crash, and may run as a job of the cluster."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from posewatch.artifact import Artifact, Job, get, produce, sha256_file
from posewatch.config import TrainConfig, TrainerConfig
from posewatch.cores import share_cores
from posewatch.errors import InputError, StoreError
from posewatch.files import home
from posewatch.names import path_of
from posewatch.stages.contents import CHECKPOINT, dataset_about, dataset_part
from posewatch.store import ObjectStore

if TYPE_CHECKING:
    from posewatch.recognition.training.mlflow import Tracker


def train(
    store: ObjectStore,
    dataset: Artifact,
    config: TrainConfig,
    trainer: TrainerConfig | None = None,
    pretrained: str = "",
) -> Artifact:
    """Train on a dataset; writes ``checkpoint.pt``, ``history.jsonl`` and ``config.yaml``.

    With ``trainer.nodes`` or ``trainer.gpus`` a job of the cluster trains (JobError when it fails). In processes that
    ``torchrun`` started, every process calls this, and they train one model. ``pretrained``, where it is given, is
    what training begins with, in place of ``config.pretrained``.
    """
    if pretrained:
        config = dataclasses.replace(config, pretrained=pretrained)
    trainer = trainer or TrainerConfig()
    job, begin = job_of(store, dataset, config, remote=trainer.remote)
    # POSEWATCH_HOME has what must outlive a crash
    work = home() / "work" / job.fingerprint
    if "WORLD_SIZE" in os.environ:
        from posewatch.stages.train_distributed import train_distributed

        return train_distributed(
            store, job, functools.partial(_train, dataset, config, begin), work, trainer.checkpoint_s
        )
    if trainer.remote:
        from posewatch.kube.trainjob import train_on_cluster

        return train_on_cluster(store, job, dataset, config, trainer)
    return produce(store, job, lambda folder: _train(dataset, config, begin, folder), work=work)


def job_of(
    store: ObjectStore, dataset: Artifact, config: TrainConfig, *, remote: bool = False
) -> tuple[Job, Artifact | Path | None]:
    """The job of a training, and the checkpoint that it begins with, whose digest is part of the job's fingerprint."""
    begin = _begin(store, config.pretrained, remote=remote)
    parents = (dataset, *([begin] if isinstance(begin, Artifact) else []))
    weights = {}
    if begin is not None:
        sha = begin.files[CHECKPOINT] if isinstance(begin, Artifact) else sha256_file(begin)
        weights = {"pretrained": {"sha256": sha, "licence": ""}}
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k != "pretrained"}
    return Job("checkpoints", "", settings, parents, weights, revision=2), begin


def _begin(store: ObjectStore, place: str, *, remote: bool) -> Artifact | Path | None:
    """The checkpoint that training begins with: an artifact of the store, or a file. Raises InputError for neither."""
    if not place:
        return None
    path = path_of(place)
    if path.is_file():
        if remote:
            raise InputError(
                f"train.pretrained {place} is a file of this machine, which the job's pods do not see: give the URI "
                "that `posewatch import-checkpoint` or `posewatch train` printed"
            )
        return path
    try:
        found = get(store, place)
    except StoreError as error:
        raise InputError(f"train.pretrained {place} is neither a file nor a checkpoint in the store: {error}") from None
    if CHECKPOINT not in found.files:
        raise InputError(
            f"train.pretrained {place} holds no {CHECKPOINT}: give what import-checkpoint or train printed"
        )
    return found


def _train(
    dataset: Artifact,
    config: TrainConfig,
    begin: Artifact | Path | None,
    folder: Path,
    wrap: Callable[[Tracker], Tracker] | None = None,
) -> None:
    """Train into ``folder``, or resume the training there. ``wrap`` wraps the experiment tracker."""
    share_cores()
    from posewatch.datasets.split import HoldOut
    from posewatch.recognition import distributed
    from posewatch.recognition.training.holdout import fit
    from posewatch.recognition.training.mlflow import Tracker, open_tracker
    from posewatch.recognition.training.pretrained import Pretrained
    from posewatch.recognition.training.trainer import plain

    train_set, validation_set = dataset_part(dataset, "train"), dataset_part(dataset, "validation")
    n, m = len(train_set), len(validation_set)
    held = HoldOut(np.arange(n), np.arange(n, n + m)) if m else None
    tracker: Tracker = open_tracker(folder) if distributed.rank() == 0 else Tracker()
    tracker.start(plain(config))
    if wrap is not None:
        tracker = wrap(tracker)
    positive = dataset_about(dataset)["positive"]
    with tempfile.TemporaryDirectory(prefix="posewatch-pretrained-") as temp:
        path = begin.fetch(CHECKPOINT, Path(temp)) if isinstance(begin, Artifact) else begin
        first = Pretrained(path, config.pretrained) if path is not None else None
    trained = fit(
        train_set.joined(validation_set), config, folder, positive=positive, held=held, tracker=tracker, begin=first
    )
    tracker.finish({}, [folder / CHECKPOINT, folder / "config.yaml"])
    if distributed.writer():
        for name in filter(None, trained.names):
            shutil.rmtree(folder / name)
