from kfp import dsl

from components.image import image


@dsl.component(base_image=image("serving"), install_kfp_package=False)
def deploy(store: str, model: str, evaluation: str, config: str) -> str:
    """Serves a published version that passes its gates.
    The embedded Triton loads it, or it is rolled out as a KServe InferenceService (docs/deploy.md).
    On a laptop: ``posewatch deploy --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        model: URI of a published version.
        evaluation: URI of an evaluation.
        config: the whole experiment as JSON.

    Returns:
        the endpoint, grpc://host:port/name.
    """
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.stages.deploy import deploy as stage

    inputs = run.artifact(model), run.artifact(evaluation)
    return stage(*inputs, run.experiment.serving, robustness=run.experiment.robustness)
