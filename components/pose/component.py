from kfp import dsl

from components.image import image


@dsl.component(base_image=image("pose"), install_kfp_package=False)
def pose(store: str, clips: str, config: str, skeletons: dsl.Output[dsl.Dataset]) -> str:
    """Estimates the skeletons of every clip.
    On a laptop: ``posewatch pose --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        clips: URI of a set of clips.
        config: the whole experiment as JSON.
    """
    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.artifact import describe, get
    from posewatch.config import load
    from posewatch.stages.pose import pose as stage
    from posewatch.store import open_store

    objects = open_store(store)
    return describe(stage(objects, get(objects, clips), load(config).pose), skeletons)
