from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def label_gate(store: str, clips: str, config: str, metrics: dsl.Output[dsl.Metrics]) -> None:
    """Waits until every class has enough labelled clips, or fails with a clear message.
    On a laptop: ``posewatch labels wait --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        clips: URI of a set of clips.
        config: the whole experiment as JSON.
    """
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.labels.store import LabelStore
    from posewatch.stages.label_gate import label_gate as stage

    metrics.metadata.update(stage(run.artifact(clips), LabelStore(), run.experiment.labels))
