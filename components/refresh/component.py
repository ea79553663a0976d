from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def refresh(
    store: str, clips: str, skeletons: str, endpoint: str, version: str, config: str, metrics: dsl.Output[dsl.Metrics]
) -> int:
    """Scores the unlabelled clips with the served model and orders the labelers' queue by its uncertainty.
    On a laptop: ``posewatch labels refresh --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        clips: URI of a set of clips.
        skeletons: URI of the set of their skeletons.
        endpoint: address of the served model, grpc://host:port/name.
        version: the model's name on the labeling page; empty: that in the endpoint.
        config: the whole experiment as JSON.

    Returns:
        number of clips that were scored.
    """
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.inference.open import open_predictor
    from posewatch.labels.store import LabelStore
    from posewatch.stages.refresh import refresh as stage

    inputs = run.artifact(clips), run.artifact(skeletons)
    with open_predictor(endpoint) as model:
        name = version or endpoint.rsplit("/", 1)[-1]
        counts = stage(*inputs, LabelStore(), model, name, run.experiment.labels)
    metrics.metadata.update(counts)
    return counts["scored"]
