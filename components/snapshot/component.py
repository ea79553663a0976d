from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def snapshot(store: str, clips: str, config: str, labels: dsl.Output[dsl.Dataset]) -> str:
    """Freezes the current labels of a set's clips.
    On a laptop: ``posewatch labels snapshot --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        clips: URI of a set of clips.
        config: the whole experiment as JSON.
    """
    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.artifact import describe, get
    from posewatch.config import load
    from posewatch.labels.store import LabelStore
    from posewatch.stages.snapshot import snapshot as stage
    from posewatch.store import open_store

    objects = open_store(store)
    return describe(stage(objects, get(objects, clips), LabelStore(), load(config).labels), labels)
