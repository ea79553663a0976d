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
    from posewatch.stages.run import step

    run = step(store)
    from posewatch.stages.score import score as stage

    inputs = [run.artifact(uri) for uri in (clips, skeletons, snapshot, model)]
    return stage(run.objects, endpoint, *inputs).describe(predictions)
