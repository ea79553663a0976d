"""Is what is served what was trained, how fast is it, and what does it say of clips that nobody labelled?"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.artifact import Artifact, Job, members, produce
from posewatch.config import LabelConfig, ServingConfig, canonical
from posewatch.errors import ServingError
from posewatch.labels.store import LabelStore
from posewatch.progress import Progress
from posewatch.recognition.dataset import ClipSet, resample
from posewatch.stages.dataset import read
from posewatch.stages.label import labels_of
from posewatch.stages.pose import skeletons_of
from posewatch.stages.split import clips_of
from posewatch.store import ObjectStore

TOLERANCE = 1e-3


def connect(endpoint: str) -> Any:
    """A predictor for ``grpc://host:port/model`` or ``http://host:port/model``."""
    from posewatch.serving.client import open_predictor

    if "://" not in endpoint:
        raise ServingError(f"bad endpoint {endpoint!r}: write grpc://host:port/model or http://host:port/model")
    return open_predictor(endpoint)


def ask_again(
    clips: Artifact, skeletons: Artifact, labels: LabelStore, endpoint: str, version: str, config: LabelConfig
) -> dict[str, int]:
    """One round of active learning with a served model: score what nobody has labelled, order the queue by its doubt.

    ``version`` is what the labeling page calls the model (empty: the endpoint's last part). Returns the numbers of
    clips scored, ordered and left to chance.
    """
    from posewatch.stages.label import refresh

    predictor = connect(endpoint)
    try:
        return refresh(clips, skeletons, labels, predictor, version or endpoint.rsplit("/", 1)[-1], config)
    finally:
        predictor.close()


def inputs(clips: ClipSet, frames: int, people: int) -> NDArray[np.float32]:
    """What a served model takes: (N, M, T, V, 3)."""
    return resample(clips.keypoints, frames, people)


def compare(endpoint: str, dataset: Artifact, onnx: Artifact, limit: int = 0) -> dict[str, Any]:
    """Send the held-out clips (``limit`` of them, spread evenly; 0: all) to the endpoint and to ONNX Runtime here.

    Returns {"endpoint", "clips", "max_abs_difference"}; raises ServingError when any probability differs by more than
    1e-3, or the endpoint has other classes.
    """
    from posewatch.serving.client import OnnxPredictor

    with tempfile.TemporaryDirectory() as temp:
        expected = OnnxPredictor(onnx.fetch("model.onnx", Path(temp)))
        held_out = read(dataset, "test")
        if 0 < limit < len(held_out):
            held_out = held_out.subset(np.linspace(0, len(held_out) - 1, limit).astype(np.int64))
        clips = inputs(held_out, expected.frames, expected.people)
        served = connect(endpoint)
        try:
            got = served.predict(clips)
        finally:
            served.close()
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


def benchmark(
    store: ObjectStore, onnx: Artifact, checkpoint: Artifact, dataset: Artifact, config: ServingConfig
) -> Artifact:
    """Measure PyTorch, ONNX Runtime, Triton with and without batching in one run; writes ``bench.json`` and plots."""
    told = {
        k: v
        for k, v in dataclasses.asdict(config).items()
        if k in ("max_batch", "queue_delay_us", "instances", "bench_seconds", "concurrency")
    }
    job = Job("benchmarks", "", told, (onnx, checkpoint, dataset))

    def make(folder: Path) -> None:
        from posewatch.recognition.training import load_checkpoint
        from posewatch.serving.benchmark import benchmark as measure
        from posewatch.serving.benchmark import steps
        from posewatch.serving.client import TorchPredictor

        with tempfile.TemporaryDirectory() as temp:
            recogniser = load_checkpoint(checkpoint.fetch("checkpoint.pt", Path(temp)))
            clips = inputs(read(dataset, "test"), recogniser.frames, recogniser.people)
            with Progress("benchmark", steps(config.concurrency, (), others=1), "load") as progress:
                measure(
                    onnx.fetch("model.onnx", Path(temp)),
                    clips,
                    folder,
                    torch_predictor=TorchPredictor(recogniser, recogniser.labels),
                    concurrency=config.concurrency,
                    seconds=config.bench_seconds,
                    max_batch=config.max_batch,
                    queue_delay_us=config.queue_delay_us,
                    instances=config.instances,
                    progress=progress.advance,
                )

    return produce(store, job, make)


def score(
    store: ObjectStore, endpoint: str, clips: Artifact, skeletons: Artifact, snapshot: Artifact, model: Artifact
) -> Artifact:
    """What the served model says of the clips without a label; writes ``predictions.jsonl``, one row per clip.

    A clip in which nobody was seen is passed on with ``people`` 0 and no probability.
    """
    job = Job("scores", "", {"endpoint": endpoint}, (clips, skeletons, snapshot, model))

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as temp:
            labelled = {row["clip_id"] for row in labels_of(snapshot, Path(temp))}
        rows: list[dict[str, Any]] = []
        found = dict(zip((r["video"] for r, _ in members(skeletons)), (a for _, a in members(skeletons)), strict=True))
        served = connect(endpoint)
        try:
            with Progress("score", len(found)) as progress:
                for member, artifact in members(clips):
                    waiting = [c for c in clips_of(artifact) if c.id not in labelled]
                    poses = skeletons_of(found[member["video"]]) if waiting else {}
                    for clip in waiting:
                        row = {
                            "clip": clip.id,
                            "video": clip.video_id,
                            "names": member["names"],
                            "start_s": clip.start_s,
                        }
                        row["people"] = poses[clip.id].persons
                        if row["people"]:
                            batch = resample([poses[clip.id].keypoints], served.frames, served.people)
                            answer = served.predict(batch)
                            row["probabilities"] = {
                                label: round(float(p), 5)
                                for label, p in zip(answer.labels, answer.probabilities[0], strict=True)
                            }
                        rows.append(row)
                    progress.advance()
        finally:
            served.close()
        text = "".join(canonical(row) + "\n" for row in rows)
        (folder / "predictions.jsonl").write_text(text, encoding="utf-8")

    return produce(store, job, make)
