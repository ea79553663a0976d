from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def benchmark(store: str, onnx: str, checkpoint: str, data: str, config: str, metrics: dsl.Output[dsl.Metrics]) -> str:
    """Measures latency and throughput: PyTorch, ONNX Runtime, Triton, Triton with dynamic batching.
    On a laptop: ``posewatch bench serving --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        onnx: URI of an ONNX export.
        checkpoint: URI of a checkpoint.
        data: URI of a dataset (content-addressed, so that caching by it is safe).
        config: the whole experiment as JSON.
    """
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.stages.benchmark import benchmark as stage
    from posewatch.stages.contents import BENCH

    bench = stage(run.objects, *[run.artifact(uri) for uri in (onnx, checkpoint, data)], run.experiment.serving)
    for row in bench.json(BENCH)["rows"]:
        metrics.log_metric(f"{row['system']}@{row['concurrency']}", row["throughput_ips"])
    return bench.uri
