"""Checkpoint → ONNX (checked equal to PyTorch) → an immutable version of the Triton model repository."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import ServingConfig, canonical
from posewatch.progress import Progress
from posewatch.store import ObjectStore

OPTIONS = (
    "name", "max_batch", "queue_delay_us", "instances", "max_queue", "queue_timeout_us", "device", "threads",
    "warm_up", "accelerator", "precision",
)  # fmt: skip
"""The values of the configuration that the model repository depends on."""


def export(store: ObjectStore, checkpoint: Artifact, config: ServingConfig) -> Artifact:
    """Export a checkpoint; writes ``model.onnx`` and ``export.json`` (largest difference from PyTorch, opset, size)."""
    job = Job("onnx", "", {"opset": config.opset}, (checkpoint,))

    def make(folder: Path) -> None:
        from posewatch.export import export as convert

        with Progress("export", 1, "model") as progress, tempfile.TemporaryDirectory() as temp:
            path = checkpoint.fetch("checkpoint.pt", Path(temp))
            report = convert(path, folder / "model.onnx", opset=config.opset, lineage=checkpoint.digest)
            (folder / "export.json").write_text(canonical(report) + "\n", encoding="utf-8")
            progress.advance()

    return produce(store, job, make)


def publish(store: ObjectStore, onnx: Artifact, config: ServingConfig) -> Artifact:
    """Write one immutable version, ``models/<name>/<version>/<name>/{config.pbtxt,1/model.onnx}``.

    The prefix is the root of a model repository, as KServe's ``storageUri`` wants it.
    """
    told = {k: v for k, v in dataclasses.asdict(config).items() if k in OPTIONS}
    job = Job("models", config.name, told, (onnx,))

    def make(folder: Path) -> None:
        from posewatch.serving.repository import write_repository

        with tempfile.TemporaryDirectory() as temp:
            write_repository(
                onnx.fetch("model.onnx", Path(temp)),
                folder,
                **told,
            )

    return produce(store, job, make)
