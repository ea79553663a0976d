from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def publish(store: str, onnx: str, config: str, repository: dsl.Output[dsl.Model]) -> str:
    """Writes an immutable version of the Triton model repository.
    On a laptop: ``posewatch publish --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        onnx: URI of an ONNX export.
        config: the whole experiment as JSON.
    """
    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.artifact import describe, get
    from posewatch.config import load
    from posewatch.stages.publish import publish as stage
    from posewatch.store import open_store

    objects = open_store(store)
    return describe(stage(objects, get(objects, onnx), load(config).serving), repository)
