"""Label files → events in the label store."""

from __future__ import annotations

import dataclasses
from typing import Any

from posewatch.artifact import Artifact, members
from posewatch.config import LabelConfig
from posewatch.labels.formats.clip_labels import has_clip_ids
from posewatch.labels.formats.importers import find_labels, import_clip_labels, import_labels
from posewatch.labels.store import LabelStore
from posewatch.progress import Progress
from posewatch.stages.ingest import local
from posewatch.stages.queue_clips import entries


def bring(clips: Artifact, source: str, labels: LabelStore, config: LabelConfig) -> dict[str, Any]:
    """Import the label files of ``source`` as events of source "import".

    A folder, a labels.csv or an s3:// URI of timed labels; or a file or folder that names clips by their ids, as
    ``posewatch labels export`` writes them.
    """
    names = [name for row, _ in members(clips) for name in row["names"]]
    with local(source) as path, Progress("labels", 1, "import") as progress:
        if has_clip_ids(path):
            report = import_clip_labels(labels, path, config)
        else:
            intervals = find_labels(path, config, warn=progress.say)
            report = import_labels(labels, entries(clips), intervals, config, videos=names)
        progress.advance()
    return dataclasses.asdict(report)
