from kfp import dsl

from components.image import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def evaluate(
    store: str,
    data: str,
    checkpoint: str,
    config: str,
    metrics: dsl.Output[dsl.Metrics],
    curves: dsl.Output[dsl.ClassificationMetrics],
) -> str:
    """Measures a checkpoint on the videos held out, beside classical baselines.
    On a laptop: ``posewatch evaluate --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        data: URI of a dataset (content-addressed, so that caching by it is safe).
        checkpoint: URI of a checkpoint.
        config: the whole experiment as JSON.
    """
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.stages.contents import metrics_of
    from posewatch.stages.evaluate import evaluate as stage

    evaluation = stage(run.objects, run.artifact(data), run.artifact(checkpoint), run.experiment.robustness)
    found = metrics_of(evaluation)
    metrics.metadata.update({k: v for k, v in found.items() if isinstance(v, int | float)})
    curves.log_confusion_matrix(found["labels"], found["confusion_matrix"])
    if found["roc"]:
        curves.log_roc_curve(found["roc"]["fpr"], found["roc"]["tpr"], found["roc"]["thresholds"])
    return evaluation.uri
