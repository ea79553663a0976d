"""Puts the clips of a set on the labelers' queue."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def queue_clips(store: str, clips: str) -> int:
    """Puts the clips of a set on the labelers' queue.

    Args:
        store: object store, s3://bucket[/prefix].
        clips: URI of a set of clips.
    """
    from posewatch.artifact import get
    from posewatch.labels.store import LabelStore
    from posewatch.stages.label import queue
    from posewatch.store import open_store

    return queue(get(open_store(store), clips), LabelStore())
