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
    It asks both about the test part and the newest judged alarms.

    Args:
        store: object store, s3://bucket[/prefix].
        model: URI of the new published version.
        served: URI of the served one.
        data: URI of the new version's dataset, made with the served one's as ``before``.
        comparison: URI of the comparison.
        reason: what was found, in words.

    Returns:
        whether the new version is better.
    """
    from posewatch.stages.run import step

    run = step(store)
    from pathlib import Path

    from posewatch.progress import say
    from posewatch.stages.compare import compare as stage
    from posewatch.stages.contents import COMPARISON

    made = stage(run.objects, run.artifact(model), run.artifact(served), run.artifact(data))
    about = made.json(COMPARISON)
    say(f"posewatch: compare: {'better' if about['better'] else 'not deployed'}: {about['reason']}")
    metrics.metadata.update({k: v for k, v in about.items() if isinstance(v, int | float | str)})
    Path(comparison).write_text(made.uri)
    Path(reason).write_text(about["reason"])
    return bool(about["better"])
