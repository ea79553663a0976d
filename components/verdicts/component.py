from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def verdicts(
    store: str,
    clips: str,
    skeletons: str,
    endpoint: str,
    config: str,
    drifted: bool,
    all_clips: dsl.OutputPath(str),  # type: ignore[valid-type]
    all_skeletons: dsl.OutputPath(str),  # type: ignore[valid-type]
    served: dsl.OutputPath(str),  # type: ignore[valid-type]
    before: dsl.OutputPath(str),  # type: ignore[valid-type]
    told: dsl.OutputPath(str),  # type: ignore[valid-type]
    metrics: dsl.Output[dsl.Metrics],
) -> bool:
    """Makes labelled clips of the alarms that operators judged, and says whether to train on them.
    On a laptop: ``posewatch labels verdicts --help``.

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

    Returns:
        whether there is enough to train on.
    """
    from posewatch.stages.run import step

    run = step(store, config)
    from pathlib import Path

    from posewatch.inference.open import open_predictor
    from posewatch.labels.store import LabelStore
    from posewatch.progress import say
    from posewatch.stages.verdicts import ready
    from posewatch.stages.verdicts import verdicts as stage

    with open_predictor(endpoint) as predictor:
        release = predictor.version
    made = stage(run.objects, LabelStore(), run.experiment, run.artifact(clips), run.artifact(skeletons))
    about = ready(run.objects, made, release, run.experiment, drifted=drifted)
    say(f"posewatch: verdicts: {about.told}")
    uris = [one.uri if one else "" for one in (made.clips, made.skeletons, about.served, about.data)]
    for path, text in zip((all_clips, all_skeletons, served, before, told), (*uris, about.told), strict=True):
        Path(path).write_text(text)
    metrics.metadata.update({k: v for k, v in made.counts.items() if isinstance(v, int)})
    return about.enough
