from kfp import dsl

from components.image import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def pretrain(store: str, skeletons: str, data: str, config: str) -> str:
    """Pretrains the network on all skeletons, labelled or not; does nothing unless ``pretrain.enabled``.
    The videos of the dataset's test part are left out.
    On a laptop: ``posewatch pretrain --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        skeletons: URI of the set of the clips' skeletons.
        data: URI of the dataset that is trained on.
        config: the whole experiment as JSON.

    Returns:
        URI of the checkpoint to begin with; empty without pretraining.
    """
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.stages.pretrain import pretrain as stage

    how, train = run.experiment.pretrain, run.experiment.train
    if not how.enabled:
        return ""
    return stage(run.objects, run.artifact(skeletons), how, train, run.artifact(data)).uri
