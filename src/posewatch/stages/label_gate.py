"""Wait until every class has enough labels."""

from __future__ import annotations

from posewatch.artifact import Artifact
from posewatch.config import LabelConfig
from posewatch.labels.gate import wait_for_labels
from posewatch.labels.store import LabelStore
from posewatch.progress import Progress
from posewatch.stages.queue_clips import stream


def wait(clips: Artifact, labels: LabelStore, config: LabelConfig) -> dict[str, int]:
    """Poll until every class has enough labelled clips; returns the counts. Raises LabelError after the time-out."""
    ids = [entry.clip.id for entry in stream(clips)]
    with Progress("label gate", len(config.classes) * config.min_per_class, "label") as progress:
        return wait_for_labels(labels, config, progress, clip_ids=ids)
