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
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.stages.split import split as stage

    return stage(run.objects, run.artifact(masked), run.experiment.split).describe(clips)
