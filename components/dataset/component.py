from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def dataset(
    store: str, snapshot: str, skeletons: str, config: str, data: dsl.Output[dsl.Dataset], before: str = ""
) -> str:
    """Freezes labels and skeletons as a dataset, split by source video.
    On a laptop: ``posewatch dataset --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        snapshot: URI of a label snapshot.
        skeletons: URI of a set of skeletons.
        config: the whole experiment as JSON.
        before: URI of an earlier dataset whose videos stay in their parts; empty: a split of its own.
    """
    from posewatch.stages.run import step

    run = step(store, config)
    from posewatch.stages.contents import dataset_about
    from posewatch.stages.dataset import dataset as stage

    inputs = run.artifact(snapshot), run.artifact(skeletons)
    labels, former = run.experiment.labels, run.artifact(before) if before else None
    frozen = stage(run.objects, *inputs, run.experiment.dataset, labels, before=former, newest=labels.newest)
    return frozen.describe(data, **dataset_about(frozen)["counts"])
