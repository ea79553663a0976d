from kfp import dsl

from components.image import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def train(store: str, data: str, config: str, model: dsl.Output[dsl.Model]) -> str:
    """Trains the recogniser; resumes after a crash.
    It trains in this step, or as a job on several nodes (``trainer.nodes``, ``trainer.gpus``).
    On a laptop: ``posewatch train --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        data: URI of a dataset (content-addressed, so that caching by it is safe).
        config: the whole experiment as JSON.
    """
    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.artifact import describe, get
    from posewatch.config import load
    from posewatch.stages.train import train as stage
    from posewatch.store import open_store

    objects, experiment = open_store(store), load(config)
    checkpoint = stage(objects, get(objects, data), experiment.train, experiment.trainer)
    return describe(checkpoint, model, framework="pytorch")
