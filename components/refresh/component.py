"""Scores the unlabelled clips with the served model and orders the labelers' queue by its doubt."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def refresh(
    store: str, clips: str, skeletons: str, endpoint: str, version: str, config: str, metrics: dsl.Output[dsl.Metrics]
) -> int:
    """Scores the unlabelled clips with the served model and orders the labelers' queue by its doubt.

    Args:
        store: object store, s3://bucket[/prefix].
        clips: URI of a set of clips.
        skeletons: URI of the set of their skeletons.
        endpoint: where the model is served, grpc://host:port/name.
        version: what the labeling page calls the model; empty takes its name.
        config: the whole experiment as JSON.
    """
    from posewatch.artifact import get
    from posewatch.config import load
    from posewatch.inference.open import open_predictor
    from posewatch.labels.store import LabelStore
    from posewatch.stages.refresh import refresh as stage
    from posewatch.store import open_store

    where, told = open_store(store), load(config).labels
    name = version or endpoint.rsplit("/", 1)[-1]
    with open_predictor(endpoint) as model:
        found = stage(get(where, clips), get(where, skeletons), LabelStore(), model, name, told)
    metrics.metadata.update(found)
    return found["scored"]
