from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def verdicts(
    store: str, clips: str, skeletons: str, endpoint: str, config: str, drifted: bool,
    all_clips: dsl.OutputPath(str), all_skeletons: dsl.OutputPath(str),  # type: ignore[valid-type]
    served: dsl.OutputPath(str), before: dsl.OutputPath(str), told: dsl.OutputPath(str),  # type: ignore[valid-type]
    metrics: dsl.Output[dsl.Metrics],
) -> bool:  # fmt: skip
    """Makes labelled clips of judged alarms, and says whether to train on them (``posewatch labels verdicts --help``).

    Args:
        store: object store, s3://bucket[/prefix].
        clips: URI of a set of clips.
        skeletons: URI of the set of their skeletons.
        endpoint: address of the served model, grpc://host:port/name.
        config: the whole experiment as JSON.
        drifted: train on a single new verdict, because the cameras' pictures have changed.
        all_clips: URI of the set of clips with those of judged alarms.
        all_skeletons: URI of the set of their skeletons.
        served: URI of the served version.
        before: URI of the dataset that it learned from.
        told: why there is enough to train on, or not.
    """
    from pathlib import Path

    from posewatch.stages import verdicts as stage
    from posewatch.stages.run import step

    run = step(store, config)
    sets = (run.artifact(clips), run.artifact(skeletons))
    enough, texts, metrics.metadata = stage.offer(run.objects, run.experiment, *sets, endpoint, drifted)
    for path, text in zip((all_clips, all_skeletons, served, before, told), texts, strict=True):
        Path(path).write_text(text)
    return enough
