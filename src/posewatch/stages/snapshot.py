"""Freeze the current labels of a set of clips."""

from __future__ import annotations

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import LabelConfig
from posewatch.labels.formats.snapshot import snapshot, write_parquet
from posewatch.labels.store import LabelStore
from posewatch.stages.contents import SNAPSHOT
from posewatch.stages.queue_clips import stream
from posewatch.store import ObjectStore


def freeze(
    store: ObjectStore, clips: Artifact, labels: LabelStore, config: LabelConfig, allow_disagreement: bool = False
) -> Artifact:
    """Freeze the current labels of a set's clips; the same labels give the same snapshot.

    Raises LabelError while people disagree on a clip, unless ``allow_disagreement``.
    """
    found = snapshot(labels, [entry.clip.id for entry in stream(clips)], allow_disagreement=allow_disagreement)
    job = Job("snapshots", "", {"labels": found.digest, "classes": list(config.classes)}, (clips,))
    return produce(store, job, lambda folder: write_parquet(found, folder / SNAPSHOT))
