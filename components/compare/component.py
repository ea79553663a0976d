from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def compare(
    store: str,
    model: str,
    served: str,
    data: str,
    comparison: dsl.OutputPath(str),  # type: ignore[valid-type]
    reason: dsl.OutputPath(str),  # type: ignore[valid-type]
    metrics: dsl.Output[dsl.Metrics],
) -> bool:
    """Compares a new version with the served one: false alarms at equal recall, on clips that neither learned from.

    Args:
        store: object store, s3://bucket[/prefix].
        model: URI of the new published version.
        served: URI of the served one.
        data: URI of the new version's dataset, made with the served one's as ``before``.
        comparison: its URI.
        reason: what was found, in words.

    Returns:
        whether the new version is better.
    """
    from pathlib import Path

    from posewatch.stages import compare as stage
    from posewatch.stages.run import step

    run = step(store)
    made = stage.compare(run.objects, *map(run.artifact, (model, served, data)))
    better, why, metrics.metadata = stage.tell(made)
    Path(comparison).write_text(made.uri)
    Path(reason).write_text(why)
    return better
