from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def ingest(store: str, source: str, videos: dsl.Output[dsl.Dataset]) -> str:
    """Copies raw videos into the store, named by their content.
    On a laptop: ``posewatch ingest --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        source: videos: a folder or an s3:// URI.
    """
    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.artifact import describe
    from posewatch.stages.ingest import ingest as stage
    from posewatch.store import open_store

    return describe(stage(open_store(store), source), videos)
