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
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.stages.pose import pose as stage

    return stage(run.objects, run.artifact(clips), run.experiment.pose).describe(skeletons)
