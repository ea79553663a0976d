"""Asks the served model about the clips that nobody labelled."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def score(
    store: str,
    endpoint: str,
    clips: str,
    skeletons: str,
    snapshot: str,
    model: str,
    predictions: dsl.Output[dsl.Dataset],
) -> str:
    """Asks the served model about the clips that nobody labelled.

    Args:
        store: object store, s3://bucket[/prefix].
        endpoint: where the model is served, grpc://host:port/name.
        clips: URI of a set of clips.
        skeletons: URI of a set of skeletons.
        snapshot: URI of a label snapshot.
        model: URI of a published version.
    """
    from posewatch.artifact import describe, get
    from posewatch.stages.score import score as stage
    from posewatch.store import open_store

    where = open_store(store)
    found = [get(where, uri) for uri in (clips, skeletons, snapshot, model)]
    return describe(stage(where, endpoint, *found), predictions)
