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
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.stages.mask import mask as stage

    return stage(run.objects, run.artifact(raw), run.experiment.mask).describe(masked)
