"""Does the served model answer like the exported one? Both get the held-out clips."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.artifact import Artifact, Job, produce
from posewatch.digests import canonical
from posewatch.errors import ServingError
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.open import open_predictor
from posewatch.inference.quantised import decode, encode, takes_quantised
from posewatch.progress import Progress
from posewatch.recognition.sampling import fitting
from posewatch.stages.contents import MODEL, SMOKE, dataset_part
from posewatch.store import ObjectStore
from posewatch.units import require_unit

TOLERANCE = 1e-3
"""Largest allowed difference of a probability."""


def smoke_test(store: ObjectStore, endpoint: str, dataset: Artifact, onnx: Artifact, model: Artifact) -> Artifact:
    """Compare the served model with ONNX Runtime in this process on the held-out clips; writes ``smoke.json``.

    Raises ServingError when any probability differs by more than `TOLERANCE`.
    """
    job = Job("smoke", "", {"endpoint": endpoint}, (dataset, onnx, model))

    def write(folder: Path) -> None:
        with Progress("smoke test", 1, "model") as progress:
            result = compare(endpoint, dataset, onnx)
            (folder / SMOKE).write_text(canonical(result) + "\n", encoding="utf-8")
            progress.advance()

    return produce(store, job, write)


def compare(endpoint: str, dataset: Artifact, onnx: Artifact, limit: int = 0) -> dict[str, Any]:
    """Send the held-out clips (``limit`` of them, spread evenly; 0: all) to the endpoint and to ONNX Runtime here.

    Returns {"endpoint", "clips", "max_abs_difference"}; raises ServingError when any probability differs by more than
    `TOLERANCE`, or when the endpoint has other classes.
    """
    with tempfile.TemporaryDirectory(prefix="posewatch-smoke-") as temp:
        exported = OnnxPredictor(onnx.fetch(MODEL, Path(temp)))
        held_out = dataset_part(dataset, "test")
        if 0 < limit < len(held_out):
            held_out = held_out.subset(np.linspace(0, len(held_out) - 1, limit).astype(np.int64))
        clips = fitting(held_out.keypoints, exported)
        with open_predictor(endpoint) as served:
            require_unit(served.unit, exported.unit, endpoint, "the exported model")
            actual = served.predict(clips)
            if takes_quantised(served.metadata):
                clips = decode(encode(clips))
        expected = exported.predict(clips)
    if actual.labels != expected.labels:
        raise ServingError(
            f"{endpoint} has the classes {', '.join(actual.labels)}, the exported model has "
            f"{', '.join(expected.labels)}: is another version loaded?"
        )
    difference = float(np.abs(actual.probabilities - expected.probabilities).max())
    if not difference <= TOLERANCE:  # written so that NaN does not pass
        raise ServingError(
            f"{endpoint} does not answer like the exported model: a probability differs by {difference:.4f} "
            f"(at most {TOLERANCE} is allowed); is another version loaded?"
        )
    return {"endpoint": endpoint, "clips": len(clips), "max_abs_difference": difference}
