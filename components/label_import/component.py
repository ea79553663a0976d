from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def label_import(
    store: str, clips: str, labels: str, config: str, after: int, metrics: dsl.Output[dsl.Metrics]
) -> None:
    """Imports label files into the label store, as events with their source; does nothing without any.
    On a laptop: ``posewatch labels import --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        clips: URI of a set of clips.
        labels: label files: a folder, a labels.csv or an s3:// URI; empty when people label in the web app.
        config: the whole experiment as JSON.
        after: an output of a step that must have ended before.
    """
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.labels.store import LabelStore
    from posewatch.stages.label_import import label_import as stage

    if labels:
        metrics.metadata.update(stage(run.artifact(clips), labels, LabelStore(), run.experiment.labels))
