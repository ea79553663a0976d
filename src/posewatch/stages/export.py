"""Checkpoint → ONNX, checked to be equal to PyTorch."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import ServingConfig
from posewatch.digests import canonical
from posewatch.progress import Progress
from posewatch.stages.contents import CHECKPOINT, EXPORT, MODEL
from posewatch.store import ObjectStore


def export(store: ObjectStore, checkpoint: Artifact, config: ServingConfig) -> Artifact:
    """Export a checkpoint; writes ``model.onnx`` and ``export.json`` (largest difference from PyTorch, opset, size)."""
    options: dict[str, Any] = {"opset": config.opset, "skip_absent": config.skips_absent}
    job = Job("onnx", "", options, (checkpoint,))

    def write(folder: Path) -> None:
        from posewatch.export import onnx

        with Progress("export", 1, "model") as progress, tempfile.TemporaryDirectory(prefix="posewatch-") as temp:
            path = checkpoint.fetch(CHECKPOINT, Path(temp))
            report = onnx.export(path, folder / MODEL, lineage=checkpoint.digest, **options)
            (folder / EXPORT).write_text(canonical(report) + "\n", encoding="utf-8")
            progress.advance()

    return produce(store, job, write)
