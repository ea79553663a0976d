from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def gather(store: str, parts: list[str], joined: dsl.Output[dsl.Dataset]) -> str:
    """Joins the sets that a stage wrote shard by shard to one set, the same as without shards.

    Args:
        store: object store, s3://bucket[/prefix].
        parts: URIs of sets of one stage, in the order of the shards.
    """
    from posewatch.stages.run import step

    run = step(store)
    from posewatch.stages.gather import gather as stage

    return stage(run.objects, [run.artifact(uri) for uri in parts]).describe(joined)
