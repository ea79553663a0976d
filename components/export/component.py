"""Exports a checkpoint to ONNX and checks that both answer alike."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def export(store: str, checkpoint: str, config: str, model: dsl.Output[dsl.Model]) -> str:
    """Exports a checkpoint to ONNX and checks that both answer alike.

    Args:
        store: object store, s3://bucket[/prefix].
        checkpoint: URI of a checkpoint.
        config: the whole experiment as JSON.
    """
    from posewatch.artifact import describe, get
    from posewatch.config import load
    from posewatch.stages.export import export as stage
    from posewatch.store import open_store

    where = open_store(store)
    made = stage(where, get(where, checkpoint), load(config).serving)
    return describe(made, model, framework="onnx", **made.json("export.json"))
