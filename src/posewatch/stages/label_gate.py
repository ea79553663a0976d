"""Wait until every class has enough labels."""

from __future__ import annotations

from posewatch.artifact import Artifact
from posewatch.config import LabelConfig
from posewatch.labels.gate import wait_for_labels
from posewatch.labels.store import LabelStore
from posewatch.progress import Progress
from posewatch.stages.contents import clip_ids


def label_gate(clips: Artifact, labels: LabelStore, config: LabelConfig) -> dict[str, int]:
    """Poll until every class has enough labelled clips; returns the counts. Raises LabelError after the timeout."""
    with Progress("label gate", len(config.classes) * config.min_per_class, "label") as progress:
        return wait_for_labels(labels, config, progress, clip_ids=clip_ids(clips))
