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
    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.artifact import get
    from posewatch.config import load
    from posewatch.labels.store import LabelStore
    from posewatch.stages.label_gate import label_gate as stage
    from posewatch.store import open_store

    metrics.metadata.update(stage(get(open_store(store), clips), LabelStore(), load(config).labels))
