"""Clips and people's labels: put clips on the labelers' queue, import labels, wait for enough of them, freeze them.

Labels live in the label store (a database); they enter it as events with their source and leave it as a snapshot.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from posewatch.artifact import Artifact, Job, members, produce
from posewatch.config import LabelConfig
from posewatch.labels.gate import wait_for_labels
from posewatch.labels.importers import find_labels, import_labels
from posewatch.labels.snapshot import read_parquet, snapshot, write_parquet
from posewatch.labels.store import ClipEntry, LabelStore
from posewatch.progress import Progress
from posewatch.stages.ingest import local
from posewatch.stages.split import clips_of
from posewatch.store import ObjectStore

SNAPSHOT = "labels.parquet"


def entries(clips: Artifact) -> list[ClipEntry]:
    """What the label store knows of every clip of a set."""
    return [
        ClipEntry(clip=clip, names=tuple(row["names"]), store=clips.store.uri, key=f"{artifact.prefix}/{clip.id}.mp4")
        for row, artifact in members(clips)
        for clip in clips_of(artifact)
    ]


def queue(clips: Artifact, labels: LabelStore) -> int:
    """Register the clips of a set with the label store, which makes them appear to labelers; returns their number."""
    found = entries(clips)
    labels.register(found)
    return len(found)


def bring(clips: Artifact, source: str, labels: LabelStore, config: LabelConfig) -> dict[str, Any]:
    """Import the label files of ``source`` (a folder, a labels.csv, an s3:// URI) as events of source "import"."""
    names = [name for row, _ in members(clips) for name in row["names"]]
    with local(source) as path, Progress("labels", 1, "import") as progress:
        intervals = find_labels(path, config, warn=progress.say)
        report = import_labels(labels, entries(clips), intervals, config, videos=names)
        progress.advance()
    return dataclasses.asdict(report)


def wait(clips: Artifact, labels: LabelStore, config: LabelConfig) -> dict[str, int]:
    """Poll until every class has enough labelled clips; returns the counts. Raises LabelError after the time-out."""
    ids = [entry.clip.id for entry in entries(clips)]
    with Progress("label gate", len(config.classes) * config.min_per_class, "label") as progress:
        return wait_for_labels(labels, config, progress, clip_ids=ids)


def freeze(store: ObjectStore, clips: Artifact, labels: LabelStore, config: LabelConfig) -> Artifact:
    """Freeze the current labels of a set's clips; the same labels give the same snapshot."""
    found = snapshot(labels, [entry.clip.id for entry in entries(clips)])
    job = Job("snapshots", "", {"labels": found.digest, "classes": list(config.classes)}, (clips,))
    return produce(store, job, lambda folder: write_parquet(found, folder / SNAPSHOT))


def labels_of(artifact: Artifact, folder: Path) -> list[dict[str, Any]]:
    """The rows of a snapshot: clip_id, video_id, label, source, who, model_version."""
    return list(read_parquet(artifact.fetch(SNAPSHOT, folder)).rows)
