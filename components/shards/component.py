from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def shards(store: str, raw: str, size: int) -> list[str]:
    """Divides a set of raw videos into shards of few videos, for stages that run side by side.

    Args:
        store: object store, s3://bucket[/prefix].
        raw: URI of a set of raw videos.
        size: videos in a shard, at most; more where there would be too many shards.

    Returns:
        URIs of the shards, in order.
    """
    from posewatch.stages.run import step

    run = step(store)
    from posewatch.stages.shards import shards as stage

    return [part.uri for part in stage(run.objects, run.artifact(raw), size)]
