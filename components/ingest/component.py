from kfp import dsl

from components.image import image


@dsl.component(base_image=image("base"), install_kfp_package=False)
def ingest(store: str, source: str, videos: dsl.Output[dsl.Dataset], seconds: float = 0.0) -> str:
    """Copies raw videos into the store, named by their content, or records a camera.
    On a laptop: ``posewatch ingest --help``.

    Args:
        store: object store, s3://bucket[/prefix].
        source: videos: a folder or an s3:// URI; or a camera, rtsp://..., with ${NAME} for what is secret in it.
        seconds: how long a camera is recorded.
    """
    import os

    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    from posewatch.artifact import describe
    from posewatch.stages.capture import raw_videos
    from posewatch.store import open_store

    run = os.environ.get("POSEWATCH_RUN", "")  # a retry goes on with its run's recording
    return describe(raw_videos(open_store(store), source, duration_s=seconds, run=run[:8]), videos)
