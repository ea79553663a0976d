"""Training in several processes, on nodes that share nothing but the object store.

Every node trains in a folder of its own. The first process copies the state from which a training resumes into the
store, under ``work/<fingerprint>/``, every minute or so. Nodes may come back without a disk, so all of them start from
that copy: they have to start at the same epoch, or they would wait for each other for ever.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from posewatch.artifact import Artifact, Job, find, get, publish, sha256_file
from posewatch.recognition import distributed
from posewatch.recognition.training.mlflow import Tracker
from posewatch.store import ObjectStore

_PARTIAL = (".part", ".before", ".damaged")


class UploadingTracker(Tracker):
    """Wraps an experiment tracker, and copies the training's folder to the store at most every ``every_s`` seconds."""

    def __init__(self, inner: Tracker, store: ObjectStore, prefix: str, folder: Path, every_s: float) -> None:
        self.inner, self.store, self.prefix, self.folder, self.every_s = inner, store, prefix, folder, every_s
        self._last = time.monotonic()
        self._uploaded: dict[str, str] = {}

    def start(self, params: Mapping[str, Any]) -> None:
        self.inner.start(params)

    def epoch(self, row: Mapping[str, Any], step: int) -> None:
        self.inner.epoch(row, step)
        if time.monotonic() - self._last >= self.every_s:
            self.upload()
            self._last = time.monotonic()

    def section(self, name: str) -> Tracker:
        part = UploadingTracker(self.inner.section(name), self.store, self.prefix, self.folder, self.every_s)
        part._uploaded = self._uploaded
        return part

    def finish(self, metrics: Mapping[str, Any], files: Sequence[Path]) -> None:
        self.inner.finish(metrics, files)

    def upload(self) -> None:
        """Copy every file that has changed; each object is replaced as a whole."""
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file() and not p.name.endswith(_PARTIAL)):
            name, sha = path.relative_to(self.folder).as_posix(), sha256_file(path)
            if self._uploaded.get(name) != sha:
                self.store.upload(f"{self.prefix}{name}", path)
                self._uploaded[name] = sha


def train_distributed(
    store: ObjectStore, job: Job, train: Callable[..., None], folder: Path, every_s: float
) -> Artifact:
    """The checkpoint of ``job``, trained by all processes of a ``torchrun``; the first one publishes it.

    Every process calls ``train(folder, wrap)``, where ``wrap`` wraps an experiment tracker.
    """
    with distributed.processes():
        # Look only after all processes have met: none can have published in between.
        existing = find(store, job.prefix)
        distributed.barrier()
        if existing is not None:
            return existing
        state = f"work/{job.fingerprint}/"
        if distributed.writer():
            restore(store, state, folder)
        distributed.barrier()
        train(folder, lambda inner: UploadingTracker(inner, store, state, folder, every_s))
        distributed.barrier()
        if distributed.rank() == 0:
            publish(store, job, folder)
            for info in store.list(state):
                store.delete(info.key)
        distributed.barrier()
        if distributed.writer():
            shutil.rmtree(folder, ignore_errors=True)
        return get(store, job.prefix)


def restore(store: ObjectStore, prefix: str, folder: Path) -> None:
    """Make ``folder`` a copy of the state in the store."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for info in store.list(prefix):
        path = folder / info.key.removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        store.fetch(info.key, path)
