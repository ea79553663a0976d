from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def publish(store: str, onnx: str, config: str, repository: dsl.Output[dsl.Model]) -> str:
    """Writes an immutable version of the Triton model repository.
    On a laptop: ``posewatch publish --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        onnx: URI of an ONNX export.
        config: the whole experiment as JSON.
    """
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.stages.publish import publish as stage

    experiment = run.experiment
    published = stage(run.objects, run.artifact(onnx), experiment.serving, experiment.mask.unit)
    return published.describe(repository)
