"""Keeps the people of every video and makes everything else black."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("masking"), install_kfp_package=False)
def mask(store: str, raw: str, config: str, made: dsl.Output[dsl.Dataset]) -> str:
    """Keeps the people of every video and makes everything else black.

    Args:
        store: object store, s3://bucket[/prefix].
        raw: URI of a set of raw videos.
        config: the whole experiment as JSON.
    """
    from posewatch.artifact import describe, get
    from posewatch.config import load
    from posewatch.stages.mask import mask as stage
    from posewatch.store import open_store

    where = open_store(store)
    return describe(stage(where, get(where, raw), load(config).mask), made)
