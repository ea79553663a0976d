"""Typed readers of the artifacts that stages hand on. Names of files inside an artifact are written here once."""

from __future__ import annotations

import io
import itertools
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posewatch.artifact import MEMBERS, Artifact, get, walk
from posewatch.datasets.clipset import ClipSet
from posewatch.errors import InputError
from posewatch.labels.entries import ClipEntry
from posewatch.labels.formats.snapshot import read_parquet
from posewatch.lineage import parent
from posewatch.perception.persons import PERSONS, Person, read_persons
from posewatch.perception.storage import DETECTIONS, read_detections
from posewatch.records import Clip, Detections, Skeleton
from posewatch.units import PERSON, SCENE, UNIT, unit_of

if TYPE_CHECKING:
    from posewatch.recognition.recogniser import Recogniser

VIDEO, MASKED, MASK_REPORT = "video", "masked.mp4", "report.json"
CLIPS, SKELETONS, SKELETONS_ABOUT, POSES = "clips.jsonl", "skeletons.npz", "skeletons.json", "poses.npz"
FLOWS = "flow.npz"
SNAPSHOT, DATASET = "labels.parquet", "dataset.json"
ALARMS = "alarms.json"
CHECKPOINT, HISTORY, MODEL = "checkpoint.pt", "history.jsonl", "model.onnx"
METRICS, EXPORT, SMOKE, BENCH, PREDICTIONS, COMPARISON = (
    "metrics.json", "export.json", "smoke.json", "bench.json", "predictions.jsonl", "comparison.json",
)  # fmt: skip


@dataclass(frozen=True)
class VideoArtifact:
    """A member of a set: the artifact of one video, with the video's id and the names by which the user knows it."""

    video: str
    names: tuple[str, ...]
    artifact: Artifact

    @property
    def row(self) -> dict[str, Any]:
        """The member's row in the set that the next stage writes."""
        return {"video": self.video, "names": list(self.names)}


def videos_of(collection: Artifact) -> Iterator[VideoArtifact]:
    """The members of a set of videos, in order, read a few ahead and never held as a whole."""
    for row, artifact in walk(collection):
        yield VideoArtifact(row["video"], tuple(row["names"]), artifact)


def stage_of(collection: Artifact) -> str:
    """The stage whose artifacts a set holds: "ingest", "mask", "split", ... Raises InputError for another artifact."""
    head, _, rest = collection.prefix.partition("/")
    if head != "sets" or "/" not in rest:
        raise InputError(f"{collection.uri} is not a set (give what ingest, mask, split or pose returned)")
    return rest.partition("/")[0]


def by_video(collection: Artifact) -> dict[str, Artifact]:
    """Video id → artifact, of a set of videos."""
    return {item.video: item.artifact for item in videos_of(collection)}


def raw_file(raw: Artifact, folder: Path) -> Path:
    """Copy the video file of a raw artifact into ``folder``; its ending is that of the ingested file."""
    return raw.fetch(next(n for n in raw.files if n.startswith(f"{VIDEO}.") and n != f"{VIDEO}.json"), folder)


def masked_file(masked: Artifact, folder: Path) -> Path:
    return masked.fetch(MASKED, folder)


def mask_report(masked: Artifact) -> dict[str, Any]:
    """``fps``, ``frames``, ``width`` and ``height`` of a masked video, and what masking counted."""
    return masked.json(MASK_REPORT)


def masked_parts(report: dict[str, Any]) -> list[tuple[int, int, float]]:
    """(first frame, frames, seconds by which the raw video is ahead) of the stretches of a masked video between the
    gaps of the raw one; of most videos one."""
    gaps = [(0, 0.0), *((int(frame), float(gap_s)) for frame, gap_s in report.get("gaps", ()))]
    ends = [frame for frame, _ in gaps[1:]] + [int(report["frames"])]
    ahead_s = itertools.accumulate(gap_s for _, gap_s in gaps)
    return [(first, end - first, s) for (first, _), end, s in zip(gaps, ends, ahead_s, strict=True) if end > first]


def masked_frame(report: dict[str, Any], start_s: float) -> int:
    """The frame of a masked video that is shown at ``start_s`` seconds of the raw one, which a clip begins with."""
    parts, fps = masked_parts(report), report["fps"]
    first, _, ahead_s = max(
        (part for part in parts if round((start_s - part[2]) * fps) >= part[0]), default=parts[0], key=lambda p: p[0]
    )
    return max(first, round((start_s - ahead_s) * fps))


def detections_of(artifact: Artifact, name: str = DETECTIONS) -> list[Detections]:
    """What masking, or with ``POSES`` the pose estimator, detected in one video, one entry per frame."""
    with tempfile.TemporaryDirectory(prefix="posewatch-detections-") as temp:
        return read_detections(artifact.fetch(name, Path(temp)))


def masked_of(clips: Artifact) -> Artifact:
    """The masked video that the clips of one video were cut from."""
    return parent(clips, "masked")


def parent_clips(skeletons: Artifact) -> Artifact:
    """The clips of one video that its skeletons were estimated in."""
    return parent(skeletons, "clips")


def raw_of(masked: Artifact) -> Artifact:
    """The raw video of a masked one."""
    return parent(masked, "raw")


def masked_unit(masked: Artifact) -> str:
    """What the clips of a masked video show: "scene" or "person"."""
    return unit_of(masked.lineage().config)


def persons_of(masked: Artifact) -> list[Person]:
    """The persons of a masked video who have a video of their own; none where its unit is the scene."""
    return read_persons(masked.json(PERSONS)) if PERSONS in masked.files else []


def clips_of(artifact: Artifact) -> list[Clip]:
    """The clips of one video."""
    return [Clip(**row) for row in artifact.lines(CLIPS)]


def clips_unit(clips: Artifact) -> str:
    """What the clips of a set show, "scene" or "person"; a set of videos without clips is of the unit of their masking,
    and an empty one of the scene."""
    videos = [item.artifact for item in videos_of(clips)]
    for artifact in videos:
        for clip in clips_of(artifact):
            return SCENE if clip.person is None else PERSON
    return masked_unit(masked_of(videos[0])) if videos else SCENE


def clip_ids(clips: Artifact) -> list[str]:
    """The ids of all clips of a set."""
    return [clip.id for item in videos_of(clips) for clip in clips_of(item.artifact)]


def clip_entries(clips: Artifact, previews: Artifact | None = None) -> Iterator[ClipEntry]:
    """The label store's entry of every clip of a set, one by one, with the previews that `queue_clips` wrote."""
    small = {row["video"]: row["prefix"] for row in previews.lines(MEMBERS)} if previews is not None else {}
    for item in videos_of(clips):
        shown = get(clips.store, small[item.video]) if item.video in small else None

        def key(name: str, shown: Artifact | None = shown) -> str | None:
            return f"{shown.prefix}/{name}" if shown is not None and name in shown.files else None

        for clip in clips_of(item.artifact):
            yield ClipEntry(
                clip=clip,
                names=item.names,
                store=clips.store.uri,
                key=f"{item.artifact.prefix}/{clip.id}.mp4",
                preview=key(f"{clip.id}.mp4"),
                skeleton=key(f"{clip.id}.json"),
            )


def skeletons_of(artifact: Artifact, only: Collection[str] | None = None) -> dict[str, Skeleton]:
    """Clip id → skeleton, of one video, with its flow where that was measured; of the clips ``only`` where that is
    given."""
    about = artifact.json(SKELETONS_ABOUT)
    for key in ("persons", UNIT):
        about.pop(key, None)
    flow: Mapping[str, NDArray[np.float32]] = {}
    if FLOWS in artifact.files:
        with np.load(io.BytesIO(artifact.read(FLOWS))) as arrays:
            flow = {name: arrays[name] for name in arrays.files if only is None or name in only}
    with np.load(io.BytesIO(artifact.read(SKELETONS))) as arrays:
        return {
            name: Skeleton(arrays[name], **about, flow=flow.get(name))
            for name in arrays.files
            if only is None or name in only
        }


def alarms_of(skeletons: Artifact) -> dict[str, Any] | None:
    """Of the skeletons of judged alarms: ``alarms`` (alarm, kind, verdict, label, time, clips) and ``watched`` (from,
    to in seconds since 1970) of their camera's day; None of a prepared video."""
    prefix = skeletons.lineage().parents[0].prefix
    if not prefix.startswith("clips/"):
        return None
    clips = get(skeletons.store, prefix)
    return dict(clips.json(ALARMS)) if ALARMS in clips.files else None


def label_rows(snapshot: Artifact) -> list[dict[str, Any]]:
    """The rows of a label snapshot: clip_id, video_id, label, source, who, model_version."""
    with tempfile.TemporaryDirectory(prefix="posewatch-labels-") as temp:
        return list(read_parquet(snapshot.fetch(SNAPSHOT, Path(temp))).rows)


def dataset_about(dataset: Artifact) -> dict[str, Any]:
    """``classes``, ``positive``, ``layout``, ``fps`` and ``counts`` (part → class → clips) of a dataset."""
    return dataset.json(DATASET)


def dataset_labels(dataset: Artifact) -> dict[str, str]:
    """Clip id → label, of all parts of a dataset."""
    return {row["clip"]: row["label"] for row in dataset.lines(CLIPS)}


def dataset_part(dataset: Artifact, part: str) -> ClipSet:
    """One part ("train", "validation" or "test") of a dataset."""
    about = dataset_about(dataset)
    rows = [row for row in dataset.lines(CLIPS) if row["part"] == part]
    with np.load(io.BytesIO(dataset.read(SKELETONS))) as arrays:
        return ClipSet(
            keypoints=tuple(arrays[row["clip"]] for row in rows),
            labels=np.array([about["classes"].index(row["label"]) for row in rows], np.int64),
            classes=tuple(about["classes"]),
            ids=tuple(row["clip"] for row in rows),
            groups=tuple(row.get("group", row["video"]) for row in rows),
            sources=tuple(row["source"] for row in rows),
            fps=about["fps"],
            layout=about["layout"],
            unit=unit_of(about),
        )


def recogniser_of(checkpoint: Artifact) -> Recogniser:
    """The trained recogniser of a checkpoint, on the CPU. Needs torch."""
    from posewatch.recognition.recogniser import load_checkpoint

    with tempfile.TemporaryDirectory(prefix="posewatch-checkpoint-") as temp:
        return load_checkpoint(checkpoint.fetch(CHECKPOINT, Path(temp)))


def metrics_of(evaluation: Artifact) -> dict[str, Any]:
    """The metrics of an evaluation: accuracy, precision, recall, f1, auc, labels, confusion_matrix, roc, ..."""
    return evaluation.json(METRICS)


def predictions_of(scores: Artifact) -> list[dict[str, Any]]:
    """The served model's predictions of unlabelled clips: clip, video, names, start_s, people, probabilities."""
    return scores.lines(PREDICTIONS)


def plots_of(artifact: Artifact) -> dict[str, bytes]:
    """Name → PNG, of every plot of an evaluation or a benchmark."""
    return {name.removesuffix(".png"): artifact.read(name) for name in artifact.files if name.endswith(".png")}
