"""Training in several processes on several nodes that share nothing but the object store.

Every node trains in a folder of its own; the first process copies what a training goes on from into the store, under
``work/<recipe>/``, every minute or so. Nodes may come back without a disk, so all of them begin from there: they have
to begin at the same epoch, or they would wait for each other for ever.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from posewatch.artifact import Artifact, Job, find, get, publish, sha256_file
from posewatch.config import TrainConfig
from posewatch.recognition import distributed as parallel
from posewatch.recognition.training.mlflow import Tracker
from posewatch.stages.train import run
from posewatch.store import ObjectStore

_PARTIAL = ".part"


class Kept:
    """A tracker that also copies the folder of the training to the store, at most every ``every_s`` seconds."""

    def __init__(self, inner: Tracker, store: ObjectStore, prefix: str, folder: Path, every_s: float) -> None:
        self.inner, self.store, self.prefix, self.folder, self.every_s = inner, store, prefix, folder, every_s
        self._last = time.monotonic()
        self._known: dict[str, str] = {}

    def start(self, params: Mapping[str, Any]) -> None:
        self.inner.start(params)

    def epoch(self, row: Mapping[str, Any], step: int) -> None:
        self.inner.epoch(row, step)
        if time.monotonic() - self._last >= self.every_s:
            self.keep()
            self._last = time.monotonic()

    def section(self, name: str) -> Tracker:
        part = Kept(self.inner.section(name), self.store, self.prefix, self.folder, self.every_s)
        part._known = self._known
        return part

    def finish(self, metrics: Mapping[str, Any], files: Sequence[Path]) -> None:
        self.inner.finish(metrics, files)

    def keep(self) -> None:
        """Copy every file that has changed; each object is replaced as a whole."""
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file() and not p.name.endswith(_PARTIAL)):
            name, sha = path.relative_to(self.folder).as_posix(), sha256_file(path)
            if self._known.get(name) != sha:
                self.store.upload(f"{self.prefix}{name}", path)
                self._known[name] = sha


def train_together(
    store: ObjectStore, job: Job, dataset: Artifact, config: TrainConfig, folder: Path, every_s: float
) -> Artifact:
    """What ``stages.train.train`` does, in every process of a ``torchrun``; the first one publishes."""
    with parallel.processes():
        # Asked after all have met: nobody can have published in between.
        found = find(store, job.where)
        parallel.barrier()
        if found is not None:
            return found
        prefix = f"work/{job.recipe}/"
        if parallel.writer():
            restore(store, prefix, folder)
        parallel.barrier()
        run(dataset, config, folder, lambda inner: Kept(inner, store, prefix, folder, every_s))
        parallel.barrier()
        if parallel.rank() == 0:
            publish(store, job, folder)
            for info in store.list(prefix):
                store.delete(info.key)
        parallel.barrier()
        if parallel.writer():
            shutil.rmtree(folder, ignore_errors=True)
        return get(store, job.where)


def restore(store: ObjectStore, prefix: str, folder: Path) -> None:
    """Make ``folder`` hold what was kept in the store, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for info in store.list(prefix):
        path = folder / info.key.removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        store.fetch(info.key, path)
