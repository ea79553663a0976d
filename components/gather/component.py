from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def gather(store: str, parts: list[str], joined: dsl.Output[dsl.Dataset]) -> str:
    """Joins the sets that a stage wrote shard by shard to one set, the same as without shards.

    Args:
        store: object store, s3://bucket[/prefix].
        parts: URIs of sets of one stage, in the order of the shards.
    """
    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.artifact import describe, get
    from posewatch.stages.gather import gather as stage
    from posewatch.store import open_store

    objects = open_store(store)
    return describe(stage(objects, [get(objects, uri) for uri in parts]), joined)
