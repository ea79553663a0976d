"""An exported model → latency and throughput of PyTorch, ONNX Runtime and Triton in one run."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import ServingConfig
from posewatch.progress import Progress
from posewatch.recognition.sampling import fitting
from posewatch.stages.contents import MODEL, dataset_part, recogniser_of
from posewatch.store import ObjectStore

SETTINGS = ("max_batch", "queue_delay_us", "instances", "bench_seconds", "concurrency")
"""The values of the configuration that the figures depend on."""


def benchmark(
    store: ObjectStore, onnx: Artifact, checkpoint: Artifact, dataset: Artifact, config: ServingConfig
) -> Artifact:
    """Measure PyTorch, ONNX Runtime, Triton with and without batching in one run; writes ``bench.json`` and plots."""
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k in SETTINGS}

    def write(folder: Path) -> None:
        from posewatch.inference.pytorch import TorchPredictor
        from posewatch.serving.benchmark import benchmark as serving

        recogniser = recogniser_of(checkpoint)
        clips = fitting(dataset_part(dataset, "test").keypoints, recogniser)
        steps = serving.steps(config.concurrency, (), others=1)
        with (
            tempfile.TemporaryDirectory(prefix="posewatch-bench-") as temp,
            Progress("benchmark", steps, "load") as progress,
        ):
            serving.benchmark(
                onnx.fetch(MODEL, Path(temp)),
                clips,
                folder,
                torch_predictor=TorchPredictor.from_recogniser(recogniser),
                concurrency=config.concurrency,
                seconds=config.bench_seconds,
                max_batch=config.max_batch,
                queue_delay_us=config.queue_delay_us,
                instances=config.instances,
                progress=progress.advance,
            )

    return produce(store, Job("benchmarks", "", settings, (onnx, checkpoint, dataset)), write)
