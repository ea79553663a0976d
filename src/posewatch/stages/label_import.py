"""Label files → events in the label store."""

from __future__ import annotations

import dataclasses
from typing import Any

from posewatch.artifact import Artifact
from posewatch.config import LabelConfig
from posewatch.labels.formats.clip_labels import has_clip_ids
from posewatch.labels.formats.importers import find_labels, import_clip_labels, import_labels
from posewatch.labels.store import LabelStore
from posewatch.progress import Progress
from posewatch.stages.contents import clip_entries, videos_of
from posewatch.store import local_copy


def label_import(
    clips: Artifact, source: str, labels: LabelStore, config: LabelConfig, fps: float | None = None
) -> dict[str, Any]:
    """Import the label files of ``source`` as events of source "import"; returns the counts.

    ``source`` is a folder, a labels.csv or an s3:// URI of timed labels; or a file or folder that names clips by their
    ids, as ``posewatch labels export`` writes them. ``fps`` is the frame rate of whole videos that were labelled in
    CVAT or FiftyOne; None: that of the masked videos.
    """
    names = [name for item in videos_of(clips) for name in item.names]
    with local_copy(source) as path, Progress("labels", 1, "import") as progress:
        if has_clip_ids(path):
            report = import_clip_labels(labels, path, config, warn=progress.say)
        else:
            entries = list(clip_entries(clips))
            rate = fps or next((entry.clip.fps for entry in entries), 1.0)
            intervals = find_labels(path, config, progress.say, rate)
            report = import_labels(labels, entries, intervals, config, videos=names, warn=progress.say)
        progress.advance()
    return dataclasses.asdict(report)
