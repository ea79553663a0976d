"""Is what is served what was exported? The held-out clips are sent to both."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.artifact import Artifact, Job, produce
from posewatch.digests import canonical
from posewatch.errors import ServingError
from posewatch.inference.open import open_predictor
from posewatch.progress import Progress
from posewatch.stages.contents import inputs, read
from posewatch.store import ObjectStore

TOLERANCE = 1e-3


def compare(endpoint: str, dataset: Artifact, onnx: Artifact, limit: int = 0) -> dict[str, Any]:
    """Send the held-out clips (``limit`` of them, spread evenly; 0: all) to the endpoint and to ONNX Runtime here.

    Returns {"endpoint", "clips", "max_abs_difference"}; raises ServingError when any probability differs by more than
    1e-3, or the endpoint has other classes.
    """
    from posewatch.inference.onnx_runtime import OnnxPredictor

    with tempfile.TemporaryDirectory() as temp:
        expected = OnnxPredictor(onnx.fetch("model.onnx", Path(temp)))
        held_out = read(dataset, "test")
        if 0 < limit < len(held_out):
            held_out = held_out.subset(np.linspace(0, len(held_out) - 1, limit).astype(np.int64))
        clips = inputs(held_out, expected.frames, expected.people)
        with open_predictor(endpoint) as served:
            got = served.predict(clips)
        want = expected.predict(clips)
    if got.labels != want.labels:
        raise ServingError(
            f"{endpoint} tells the classes {', '.join(got.labels)}, the exported model has {', '.join(want.labels)}: is"
            " another version loaded?"
        )
    worst = float(np.abs(got.probabilities - want.probabilities).max())
    if not worst <= TOLERANCE:  # written so that NaN does not pass
        raise ServingError(
            f"{endpoint} does not answer like the exported model: a probability differs by {worst:.4f} "
            f"(at most {TOLERANCE} is allowed); is another version loaded?"
        )
    return {"endpoint": endpoint, "clips": len(clips), "max_abs_difference": worst}


def smoke_test(store: ObjectStore, endpoint: str, dataset: Artifact, onnx: Artifact, model: Artifact) -> Artifact:
    """Send the held-out clips to the endpoint and compare with ONNX Runtime in this process; writes ``smoke.json``.

    Raises ServingError when any probability differs by more than 1e-3.
    """
    job = Job("smoke", "", {"endpoint": endpoint}, (dataset, onnx, model))

    def make(folder: Path) -> None:
        with Progress("smoke test", 1, "model") as progress:
            told = compare(endpoint, dataset, onnx)
            (folder / "smoke.json").write_text(canonical(told) + "\n", encoding="utf-8")
            progress.advance()

    return produce(store, job, make)
