"""From raw videos to skeletons: ingest, mask, split, pose, all of them in ``prepare``; rendered footage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from posewatch.cli.context import Context, LabelContext, Writes, say, topic, verb
from posewatch.rules import Range

if TYPE_CHECKING:
    from posewatch.artifact import Artifact

app = topic()
SKELETONS = "skeletons.pkl"
"""What `footage --skeletons` writes."""


@dataclass(frozen=True)
class Recording:
    """How a source is read: broken files, and for how long a camera is recorded."""

    allow_truncated: Annotated[
        bool, Option("--allow-truncated", help="Use videos that break off, up to the break.")
    ] = False
    duration: Annotated[
        float | None,
        Option(metavar="SECONDS", help="How long to record a camera (rtsp://...)."),
        Range(0, 31_536_000, above=True),
    ] = None
    segment: Annotated[float, Option(metavar="SECONDS", help="Length of each recorded video."), Range(1, 86_400)] = 60.0
    camera: Annotated[str, Option(metavar="NAME", help="Camera's name; the same name continues its recording.")] = ""


Source = Annotated[str, Argument(help="A video, a folder, an s3:// URI, or a camera (rtsp://...).")]
Clips = Annotated[str, Argument(help="URI of a set of clips.")]


def _raw(context: Context, source: str, recording: Recording) -> Artifact:
    """Raw videos from files, or recorded from a camera."""
    from posewatch.stages.capture import raw_videos

    return raw_videos(
        context.objects,
        source,
        duration_s=recording.duration or 0.0,
        segment_s=recording.segment,
        name=recording.camera,
        allow_truncated=recording.allow_truncated,
    )


@verb(app, "ingest")
def ingest(source: Source, recording: Recording, context: Context) -> str:
    """Store raw videos, or record a camera."""
    return _raw(context, source, recording).uri


@verb(app, "mask")
def mask(raw: Annotated[str, Argument(help="URI of raw videos.")], context: Context) -> str:
    """Black out everything but the people."""
    from posewatch.stages.mask import mask

    return mask(context.objects, context.artifact(raw), context.experiment.mask).uri


@verb(app, "split")
def split(masked: Annotated[str, Argument(help="URI of masked videos.")], context: Context) -> str:
    """Cut masked videos into clips of a fixed length."""
    from posewatch.stages.split import split

    return split(context.objects, context.artifact(masked), context.experiment.split).uri


@verb(app, "pose")
def pose(clips: Clips, context: Context) -> str:
    """Estimate the skeletons of every clip."""
    from posewatch.stages.pose import pose

    return pose(context.objects, context.artifact(clips), context.experiment.pose).uri


@verb(app, "prepare")
def prepare(source: Source, recording: Recording, context: LabelContext) -> dict[str, str]:
    """Ingest, mask, split, pose and queue in one go."""
    from posewatch.stages.contents import clips_of, videos_of
    from posewatch.stages.mask import mask
    from posewatch.stages.pose import pose
    from posewatch.stages.queue_clips import previews, queue_clips
    from posewatch.stages.split import split

    store, experiment = context.objects, context.experiment
    labels = context.labels  # before the work: a store that cannot be opened is told at once
    masked = mask(store, _raw(context, source, recording), experiment.mask)
    clips = split(store, masked, experiment.split)
    skeletons = pose(store, clips, experiment.pose)
    queue_clips(clips, labels, previews(store, clips, skeletons))
    empty = sum(clip.people == 0 for item in videos_of(clips) for clip in clips_of(item.artifact))
    if empty:
        say(f"posewatch: nobody was seen in {empty} clips; they stay on the queue")
    return {"clips": clips.uri, "skeletons": skeletons.uri}


def _rendered(values: dict[str, Any]) -> list[Path]:
    """What `footage` writes."""
    if values["skeletons"]:
        return [values["out"] / SKELETONS]
    out, names = values["out"], [f"video-{i:03d}" for i in range(values["videos"])]
    truth = [out / "truth" / f"{name}{suffix}" for name in names for suffix in (".npz", ".json")]
    return [out / "labels.csv", *(out / f"{name}.mp4" for name in names), *truth]


@verb(app, "footage", stack=False)
def footage(
    out: Annotated[
        Path, Option(metavar="DIR", help="Folder for the videos and their ground truth."), Writes(paths=_rendered)
    ],
    videos: Annotated[int, Option(help="How many."), Range(1, 100_000)] = 24,
    seconds: Annotated[
        float | None, Option(help="Length of each (default: 9, of skeletons 3)."), Range(2, 86_400)
    ] = None,
    fps: Annotated[float, Option(help="Frame rate."), Range(0, 240, above=True)] = 10.0,
    seed: Annotated[int, Option(help="Seed of the scenes."), Range(0, 2**32 - 1)] = 0,
    skeletons: Annotated[
        int | None,
        Option(metavar="N", help="Instead of videos N clips of skeletons, labelled with their act: skeletons.pkl."),
        Range(1, 1_000_000),
    ] = None,
    kinds: Annotated[
        str | None,
        Option(metavar="LIST", help="Scenes: ordinary, harm, crowd, everyday, falls, or single ones such as lie_down."),
    ] = None,
) -> str:
    """Render labelled CCTV-like videos with truth."""
    chosen: tuple[str, ...] = ()
    if kinds:
        from posewatch.footage.scenario import kinds_of

        chosen = kinds_of(name.strip() for name in kinds.split(",") if name.strip())
    if skeletons:
        from posewatch.datasets.pyskl import write_pyskl
        from posewatch.datasets.rendered import rendered_clips
        from posewatch.footage.skeletons import KINDS

        clips = rendered_clips(skeletons, seconds=seconds or 3.0, fps=fps, seed=seed, kinds=chosen or KINDS)
        write_pyskl(out / SKELETONS, clips, {})
        return f"{skeletons} clips of {len(clips.classes)} acts in {out / SKELETONS}"
    from posewatch.footage import make_footage
    from posewatch.progress import Progress

    with Progress("footage", videos) as progress:
        rendered = make_footage(
            out, videos=videos, seconds=seconds or 9.0, fps=fps, seed=seed, kinds=chosen, progress=progress.advance
        )
    return f"{len(rendered)} videos, labels.csv and exact ground truth in {out}"
