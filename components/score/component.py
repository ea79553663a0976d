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
    """Predicts the unlabelled clips with the served model.
    On a laptop: ``posewatch score --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        endpoint: address of the served model, grpc://host:port/name.
        clips: URI of a set of clips.
        skeletons: URI of a set of skeletons.
        snapshot: URI of a label snapshot.
        model: URI of a published version.
    """
    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.artifact import describe, get
    from posewatch.stages.score import score as stage
    from posewatch.store import open_store

    objects = open_store(store)
    inputs = [get(objects, uri) for uri in (clips, skeletons, snapshot, model)]
    return describe(stage(objects, endpoint, *inputs), predictions)
