from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def dataset(store: str, snapshot: str, skeletons: str, config: str, data: dsl.Output[dsl.Dataset]) -> str:
    """Freezes labels and skeletons as a dataset, split by source video.
    On a laptop: ``posewatch dataset --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        snapshot: URI of a label snapshot.
        skeletons: URI of a set of skeletons.
        config: the whole experiment as JSON.
    """
    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.artifact import describe, get
    from posewatch.config import load
    from posewatch.stages.contents import dataset_about
    from posewatch.stages.dataset import dataset as stage
    from posewatch.store import open_store

    objects, experiment = open_store(store), load(config)
    inputs = get(objects, snapshot), get(objects, skeletons)
    frozen = stage(objects, *inputs, experiment.dataset, experiment.labels)
    return describe(frozen, data, **dataset_about(frozen)["counts"])
