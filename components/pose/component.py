"""Estimates the skeletons of every clip."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("pose"), install_kfp_package=False)
def pose(store: str, clips: str, config: str, made: dsl.Output[dsl.Dataset]) -> str:
    """Estimates the skeletons of every clip.

    Args:
        store: object store, s3://bucket[/prefix].
        clips: URI of a set of clips.
        config: the whole experiment as JSON.
    """
    from posewatch.artifact import describe, get
    from posewatch.config import load
    from posewatch.stages.pose import pose as stage
    from posewatch.store import open_store

    where = open_store(store)
    return describe(stage(where, get(where, clips), load(config).pose), made)
