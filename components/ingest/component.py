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

    from posewatch.stages.run import step

    run = step(store)
    from posewatch.stages.capture import raw_videos

    run_id = os.environ.get("POSEWATCH_RUN", "")  # a retry goes on with its run's recording
    return raw_videos(run.objects, source, duration_s=seconds, run=run_id[:8]).describe(videos)
