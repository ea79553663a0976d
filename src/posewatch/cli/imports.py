"""Files of other tools that become ours: import-clips, import-poses, import-checkpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from posewatch.cli.context import Context, LabelContext, Writes, notes, topic, verb
from posewatch.errors import InputError
from posewatch.rules import Range

app = topic()


@dataclass(frozen=True)
class Unsaid:
    """What an official checkpoint does not say, or says in its configuration's text only."""

    PANEL = "What the file does not say"

    classes: Annotated[
        str | None, Option(metavar="LIST", help="Class names in the order of the outputs, or a label_map.txt.")
    ] = None
    positive: Annotated[
        str | None,
        Option(metavar="CLASS", help="Class that raises alerts (default: abnormal, else the second of two)."),
    ] = None
    layout: Annotated[str | None, Option(help="Joint layout (default: by the number of joints).")] = None
    features: Annotated[
        Literal["raw", "hips"], Option(help="hips: it was trained on coordinates relative to the hips.")
    ] = "raw"
    stream: Annotated[
        Literal["j", "b", "k", "jm", "bm", "km"] | None, Option(help="Stream (default: the file's, else j).")
    ] = None
    frames: Annotated[int | None, Option(help="T (default: the file's, else 100)."), Range(2, 10_000)] = None
    people: Annotated[int | None, Option(help="M (default: the file's, else 2)."), Range(1, 100)] = None
    fps: Annotated[float, Option(help="Frame rate of its clips."), Range(0, 240, above=True)] = 30.0

    def options(self) -> dict[str, Any]:
        """Keyword arguments of ``imported.import_official``."""
        from posewatch.datasets import layouts
        from posewatch.datasets.paper import class_names
        from posewatch.recognition.training.experiment import positive_of

        names = class_names(self.classes)
        layout = self.layout
        named = layouts.from_yaml(layout) if layout and layout.endswith((".yaml", ".yml")) else None
        return {
            "classes": names,
            "positive": positive_of(names, self.positive) if names else "",
            "layout": named or (layouts.get(layout) if layout else None),
            "features": self.features,
            "stream": self.stream or "",
            "frames": self.frames or 0,
            "people": self.people or 0,
            "fps": self.fps,
        }


@verb(app, "import-checkpoint")
def import_checkpoint(
    file: Annotated[Path, Argument(help="A checkpoint of the official ProtoGCN code (.pth).")],
    unsaid: Unsaid,
    context: Context,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="Write a checkpoint file .pt (default: into the store)."), Writes()
    ] = None,
) -> str:
    """Make a checkpoint of the official code ours."""
    options = unsaid.options()
    if out is None:
        from posewatch.stages.import_checkpoint import import_checkpoint

        artifact, lines = import_checkpoint(context.objects, file, options)
        notes(lines)
        return artifact.uri
    from posewatch.recognition.imported import import_official
    from posewatch.recognition.recogniser import save

    recogniser, lines = import_official(file, **options)
    save(out, recogniser, recogniser.state_dict())
    notes(lines)
    return str(out)


@verb(app, "import-poses", stack=False)
def import_poses(
    source: Annotated[
        Path,
        Argument(help="Poses of MMPose, OpenPose, AlphaPose, Ultralytics, COCO, NTU RGB+D, ...: a file or a folder."),
    ],
    out: Annotated[Path, Option(metavar="FILE", help="Skeletons to write, .pkl, in pyskl's format."), Writes()],
    context: Context,
    labels: Annotated[
        Path | None, Option(metavar="CSV", help="label.csv; clips that it does not name are left out.")
    ] = None,
    people: Annotated[int, Option(help="M: people of a clip who are followed."), Range(1, 100)] = 1,
    fps: Annotated[float, Option(help="Frame rate of the clips."), Range(0, 240, above=True)] = 30.0,
    layout: Annotated[
        str | None, Option(help="Joint layout: a built-in name or a YAML file (default: what the format says).")
    ] = None,
    size: Annotated[
        str | None, Option(metavar="WxH", help="Size of the pictures, for coordinates from 0 to 1: 1920x1080.")
    ] = None,
) -> str:
    """Make a file of skeletons of other tools' poses."""
    from dataclasses import replace

    import numpy as np

    from posewatch.datasets import layouts
    from posewatch.datasets.annotations import count, some
    from posewatch.datasets.paper import labels_by_name
    from posewatch.datasets.pyskl import write_pyskl
    from posewatch.perception.pose_files import read_poses

    chosen = (layouts.from_yaml if layout.endswith((".yaml", ".yml")) else layouts.get)(layout) if layout else None
    found = read_poses(source, context.experiment.pose, people, fps, chosen, _size(size))
    told = list(found.notes)
    if found.empty:
        told.append(f"{count(len(found.empty), 'clip')} in which nobody is seen: {some(found.empty, 3)}")
    if labels is not None:
        given = labels_by_name(found.clips.ids, labels)
        told += given.notes
        found = found.subset([i for i, name in enumerate(found.clips.ids) if name in given.numbers])
        numbers = np.array([given.numbers[name] for name in found.clips.ids], np.int64)
        found = replace(found, clips=replace(found.clips, labels=numbers, classes=tuple(given.classes)))
    elif not found.labelled:
        told.append("No clip has a class: give the label.csv with --labels, to train on them.")
    write_pyskl(out, found.clips, found.splits, list(found.sizes))
    notes(told)
    return f"{len(found.clips)} clips of {len(set(found.clips.groups))} videos: {out}"


def _size(text: str | None) -> tuple[int, int] | None:
    """(height, width) of ``--size WxH``."""
    if text is None:
        return None
    sides = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if sides is None:
        raise InputError(f"--size must be width x height in pixels, e.g. 1920x1080, not {text!r}")
    return int(sides[2]), int(sides[1])


@verb(app, "import-clips")
def import_clips(
    source: Annotated[str, Argument(help="Folder of masked videos of single persons, or of their clips.")],
    context: LabelContext,
    names: Annotated[
        Literal["person", "clip", "person-clip"] | None,
        Option(help="What the numbers at the end of the names count (default: by the files' lengths)."),
    ] = None,
    fps: Annotated[
        float | None, Option(help="Frame rate (default: the files'; the paper's tools always write 30)."), Range(1, 240)
    ] = None,
    clip_frames: Annotated[int, Option(help="Frames of a clip (clip_size)."), Range(2, 100_000)] = 30,
) -> dict[str, str]:
    """Take masked videos and clips as they are."""
    from dataclasses import replace

    from posewatch.stages.import_clips import import_clips
    from posewatch.stages.pose import pose
    from posewatch.stages.queue_clips import previews, queue_clips
    from posewatch.stages.split import split

    store, experiment, labels = context.objects, context.experiment, context.labels
    masked, rate = import_clips(store, source, kind=names or "", fps=fps or 0.0, clip_frames=clip_frames)
    clips = split(store, masked, replace(experiment.split, length_s=clip_frames / rate, overlap_s=0.0))
    skeletons = pose(store, clips, experiment.pose)
    queue_clips(clips, labels, previews(store, clips, skeletons))
    return {"clips": clips.uri, "skeletons": skeletons.uri}
