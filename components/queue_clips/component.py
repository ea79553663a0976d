from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def queue_clips(store: str, clips: str, skeletons: str) -> int:
    """Puts the clips of a set on the labelers' queue.
    On a laptop: ``posewatch labels queue --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        clips: URI of a set of clips.
        skeletons: URI of the set of their skeletons, which the page draws over them.

    Returns:
        number of clips.
    """
    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.artifact import get
    from posewatch.labels.store import LabelStore
    from posewatch.stages.queue_clips import previews
    from posewatch.stages.queue_clips import queue_clips as stage
    from posewatch.store import open_store

    objects = open_store(store)
    chosen = get(objects, clips)
    return stage(chosen, LabelStore(), previews(objects, chosen, get(objects, skeletons)))
