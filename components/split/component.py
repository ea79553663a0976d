"""Splits masked videos into clips of a fixed length."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def split(store: str, masked: str, config: str, made: dsl.Output[dsl.Dataset]) -> str:
    """Splits masked videos into clips of a fixed length.

    Args:
        store: object store, s3://bucket[/prefix].
        masked: URI of a set of masked videos.
        config: the whole experiment as JSON.
    """
    from posewatch.artifact import describe, get
    from posewatch.config import load
    from posewatch.stages.split import split as stage
    from posewatch.store import open_store

    where = open_store(store)
    return describe(stage(where, get(where, masked), load(config).split), made)
