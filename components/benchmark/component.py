"""Measures latency and throughput: PyTorch, ONNX Runtime, Triton, Triton with dynamic batching."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def benchmark(store: str, onnx: str, checkpoint: str, data: str, config: str, metrics: dsl.Output[dsl.Metrics]) -> str:
    """Measures latency and throughput: PyTorch, ONNX Runtime, Triton, Triton with dynamic batching.

    Args:
        store: object store, s3://bucket[/prefix].
        onnx: URI of an ONNX export.
        checkpoint: URI of a checkpoint.
        data: URI of a dataset (content-addressed, so that caching by it is safe).
        config: the whole experiment as JSON.
    """
    from posewatch.artifact import get
    from posewatch.config import load
    from posewatch.stages.benchmark import benchmark as stage
    from posewatch.store import open_store

    where, told = open_store(store), load(config).serving
    made = stage(where, get(where, onnx), get(where, checkpoint), get(where, data), told)
    for row in made.json("bench.json")["rows"]:
        metrics.log_metric(f"{row['system']}@{row['concurrency']}", row["throughput_ips"])
    return made.uri
