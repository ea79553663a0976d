"""Current labels of a set of clips → a frozen snapshot."""

from __future__ import annotations

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import LabelConfig
from posewatch.labels.formats.snapshot import snapshot as current_labels
from posewatch.labels.formats.snapshot import write_parquet
from posewatch.labels.store import LabelStore
from posewatch.stages.contents import SNAPSHOT, clip_ids
from posewatch.store import ObjectStore


def snapshot(
    store: ObjectStore, clips: Artifact, labels: LabelStore, config: LabelConfig, *, allow_disagreement: bool = False
) -> Artifact:
    """Freeze the current labels of a set's clips; the same labels give the same snapshot.

    Raises LabelError while people disagree on a clip, unless ``allow_disagreement``.
    """
    current = current_labels(labels, clip_ids(clips), allow_disagreement=allow_disagreement)
    job = Job("snapshots", "", {"labels": current.digest, "classes": list(config.classes)}, (clips,))
    return produce(store, job, lambda folder: write_parquet(current, folder / SNAPSHOT))
