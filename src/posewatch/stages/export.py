"""Checkpoint → ONNX (checked equal to PyTorch) → an immutable version of the Triton model repository."""

from __future__ import annotations

import tempfile
from pathlib import Path

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import ServingConfig
from posewatch.digests import canonical
from posewatch.progress import Progress
from posewatch.store import ObjectStore


def export(store: ObjectStore, checkpoint: Artifact, config: ServingConfig) -> Artifact:
    """Export a checkpoint; writes ``model.onnx`` and ``export.json`` (largest difference from PyTorch, opset, size)."""
    job = Job("onnx", "", {"opset": config.opset}, (checkpoint,))

    def make(folder: Path) -> None:
        from posewatch.export.onnx import export as convert

        with Progress("export", 1, "model") as progress, tempfile.TemporaryDirectory() as temp:
            path = checkpoint.fetch("checkpoint.pt", Path(temp))
            report = convert(path, folder / "model.onnx", opset=config.opset, lineage=checkpoint.digest)
            (folder / "export.json").write_text(canonical(report) + "\n", encoding="utf-8")
            progress.advance()

    return produce(store, job, make)
