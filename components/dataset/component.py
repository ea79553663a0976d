"""Freezes labels and skeletons as a dataset, split by source video."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def dataset(store: str, snapshot: str, skeletons: str, config: str, data: dsl.Output[dsl.Dataset]) -> str:
    """Freezes labels and skeletons as a dataset, split by source video.

    Args:
        store: object store, s3://bucket[/prefix].
        snapshot: URI of a label snapshot.
        skeletons: URI of a set of skeletons.
        config: the whole experiment as JSON.
    """
    from posewatch.artifact import describe, get
    from posewatch.config import load
    from posewatch.stages.dataset import dataset as stage
    from posewatch.store import open_store

    where, told = open_store(store), load(config)
    made = stage(where, get(where, snapshot), get(where, skeletons), told.dataset, told.labels)
    return describe(made, data, **made.json("dataset.json")["counts"])
