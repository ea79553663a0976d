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
    from posewatch.stages.run import step

    run = step(store)
    from posewatch.labels.store import LabelStore
    from posewatch.stages.queue_clips import previews
    from posewatch.stages.queue_clips import queue_clips as stage

    chosen = run.artifact(clips)
    return stage(chosen, LabelStore(), previews(run.objects, chosen, run.artifact(skeletons)))
