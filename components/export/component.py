from kfp import dsl

from components.image import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def export(store: str, checkpoint: str, config: str, model: dsl.Output[dsl.Model]) -> str:
    """Exports a checkpoint to ONNX and checks that its answers are equal to PyTorch's.
    On a laptop: ``posewatch export --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        checkpoint: URI of a checkpoint.
        config: the whole experiment as JSON.
    """
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.stages.contents import EXPORT
    from posewatch.stages.export import export as stage

    onnx = stage(run.objects, run.artifact(checkpoint), run.experiment.serving)
    return onnx.describe(model, framework="onnx", **onnx.json(EXPORT))
