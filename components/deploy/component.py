"""Serves a published version: by the embedded Triton, or as a KServe InferenceService."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def deploy(store: str, model: str, evaluation: str, config: str) -> str:
    """Serves a published version: by the embedded Triton, or as a KServe InferenceService.

    Args:
        store: object store, s3://bucket[/prefix].
        model: URI of a published version.
        evaluation: URI of an evaluation.
        config: the whole experiment as JSON.
    """
    from posewatch.artifact import get
    from posewatch.config import load
    from posewatch.stages.deploy import deploy as stage
    from posewatch.store import open_store

    where = open_store(store)
    told = load(config)
    return stage(get(where, model), get(where, evaluation), told.serving, robustness=told.robustness)
