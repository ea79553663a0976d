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
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.labels.store import LabelStore
    from posewatch.stages.snapshot import snapshot as stage

    return stage(run.objects, run.artifact(clips), LabelStore(), run.experiment.labels).describe(labels)
