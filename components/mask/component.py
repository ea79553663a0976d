from kfp import dsl

from components.image import image


@dsl.component(base_image=image("masking"), install_kfp_package=False)
def mask(store: str, raw: str, config: str, masked: dsl.Output[dsl.Dataset]) -> str:
    """Masks every video: its people stay, everything else turns black.
    On a laptop: ``posewatch mask --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        raw: URI of a set of raw videos.
        config: the whole experiment as JSON.
    """
    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.artifact import describe, get
    from posewatch.config import load
    from posewatch.stages.mask import mask as stage
    from posewatch.store import open_store

    objects = open_store(store)
    return describe(stage(objects, get(objects, raw), load(config).mask), masked)
