from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def smoke_test(store: str, endpoint: str, data: str, onnx: str, model: str, metrics: dsl.Output[dsl.Metrics]) -> str:
    """Sends held-out clips to the endpoint and compares its answers with the exported model's.
    On a laptop: ``posewatch smoke-test --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        endpoint: address of the served model, grpc://host:port/name.
        data: URI of a dataset (content-addressed, so that caching by it is safe).
        onnx: URI of an ONNX export.
        model: URI of a published version.
    """
    from posewatch.stages.run import step

    run = step(store)
    from posewatch.stages.contents import SMOKE
    from posewatch.stages.smoke_test import smoke_test as stage

    smoke = stage(run.objects, endpoint, *[run.artifact(uri) for uri in (data, onnx, model)])
    metrics.metadata.update(smoke.json(SMOKE))
    return smoke.uri
