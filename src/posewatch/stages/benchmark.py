"""An exported model → latency and throughput of PyTorch, ONNX Runtime and Triton in one run."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import ServingConfig
from posewatch.progress import Progress
from posewatch.stages.contents import inputs, read
from posewatch.store import ObjectStore


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
        from posewatch.inference.pytorch import TorchPredictor
        from posewatch.recognition.training.trainer import load_checkpoint
        from posewatch.serving.benchmark.benchmark import benchmark as measure
        from posewatch.serving.benchmark.benchmark import steps

        with tempfile.TemporaryDirectory() as temp:
            recogniser = load_checkpoint(checkpoint.fetch("checkpoint.pt", Path(temp)))
            clips = inputs(read(dataset, "test"), recogniser.frames, recogniser.people)
            with Progress("benchmark", steps(config.concurrency, (), others=1), "load") as progress:
                measure(
                    onnx.fetch("model.onnx", Path(temp)),
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

    return produce(store, job, make)
