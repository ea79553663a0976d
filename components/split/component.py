from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def split(store: str, masked: str, config: str, clips: dsl.Output[dsl.Dataset]) -> str:
    """Splits masked videos into clips of a fixed length.
    On a laptop: ``posewatch split --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        masked: URI of a set of masked videos.
        config: the whole experiment as JSON.
    """
    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.artifact import describe, get
    from posewatch.config import load
    from posewatch.stages.split import split as stage
    from posewatch.store import open_store

    objects = open_store(store)
    return describe(stage(objects, get(objects, masked), load(config).split), clips)
