from kfp import dsl

from components.image import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def train(store: str, data: str, config: str, model: dsl.Output[dsl.Model], pretrained: str = "") -> str:
    """Trains the recogniser; resumes after a crash.
    It trains in this step, or as a job on several nodes (``trainer.nodes``, ``trainer.gpus``).
    On a laptop: ``posewatch train --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        data: URI of a dataset (content-addressed, so that caching by it is safe).
        config: the whole experiment as JSON.
        pretrained: URI of a checkpoint to begin with; empty for ``train.pretrained``.
    """
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.stages.train import train as stage

    checkpoint = stage(run.objects, run.artifact(data), run.experiment.train, run.experiment.trainer, pretrained)
    return checkpoint.describe(model, framework="pytorch")
