"""Sends held-out clips to the endpoint and compares with the exported model."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def smoke_test(store: str, endpoint: str, data: str, onnx: str, model: str, metrics: dsl.Output[dsl.Metrics]) -> str:
    """Sends held-out clips to the endpoint and compares with the exported model.

    Args:
        store: object store, s3://bucket[/prefix].
        endpoint: where the model is served, grpc://host:port/name.
        data: URI of a dataset (content-addressed, so that caching by it is safe).
        onnx: URI of an ONNX export.
        model: URI of a published version.
    """
    from posewatch.artifact import get
    from posewatch.stages.smoke_test import smoke_test as stage
    from posewatch.store import open_store

    where = open_store(store)
    made = stage(where, endpoint, get(where, data), get(where, onnx), get(where, model))
    metrics.metadata.update(made.json("smoke.json"))
    return made.uri
