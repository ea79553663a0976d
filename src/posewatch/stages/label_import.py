"""Label files → events in the label store."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from posewatch.artifact import Artifact
from posewatch.config import LabelConfig
from posewatch.datasets.intervals import Interval
from posewatch.datasets.paper import stem
from posewatch.errors import LabelError
from posewatch.labels.formats import paper
from posewatch.labels.formats.clip_labels import has_clip_ids, stretches_of
from posewatch.labels.formats.importers import (
    ImportReport,
    find_labels,
    import_clip_labels,
    import_labels,
    import_named,
)
from posewatch.labels.formats.labelstudio import FRAME_RATE, is_export
from posewatch.labels.store import LabelStore
from posewatch.progress import Progress
from posewatch.stages.contents import clip_entries, videos_of
from posewatch.stages.import_clips import names_of
from posewatch.store import local_copy


def label_import(
    clips: Artifact,
    source: str,
    labels: LabelStore,
    config: LabelConfig,
    fps: float | None = None,
    zeros: paper.Zeros = "touched",
) -> dict[str, Any]:
    """Import the label files of ``source`` as events of source "import"; returns the counts.

    ``source`` is a folder, a labels.csv or an s3:// URI of timed labels; or a file or folder that names clips by their
    ids, as ``posewatch labels export`` writes them; or a label file of the paper's tools, in which ``zeros`` says what
    class 0 means (``formats/paper.py``). ``fps`` is the frame rate of whole videos that were labelled in
    CVAT, FiftyOne, Supervisely or Label Studio; None: that of the masked videos, or Label Studio's own.
    """
    names = [name for item in videos_of(clips) for name in item.names]
    with local_copy(source) as path, Progress("labels", 1, "import") as progress:
        if (theirs := paper.find(path)) is not None:
            report = _of_the_paper(clips, paper.read(theirs, config, zeros, progress.say), labels, config, progress.say)
        elif has_clip_ids(path):
            report = import_clip_labels(labels, path, config, warn=progress.say)
        else:
            entries = list(clip_entries(clips))
            studio = path.is_file() and is_export(path) and stretches_of(path) is None
            rate = fps or (FRAME_RATE if studio else next((entry.clip.fps for entry in entries), 1.0))
            intervals = find_labels(path, config, progress.say, rate)
            report = import_labels(labels, entries, intervals, config, videos=names, warn=progress.say)
        progress.advance()
    return dataclasses.asdict(report)


def _of_the_paper(
    clips: Artifact, found: paper.Named, labels: LabelStore, config: LabelConfig, warn: Callable[[str], None]
) -> ImportReport:
    """Labels by the names that the paper's tools give clips; where those clips were ingested as videos, of whole
    videos."""
    named = names_of(clips)
    if named:
        return import_named(labels, found.labels, named, config, warn=warn)
    videos = [name for item in videos_of(clips) for name in item.names]
    known = {stem(name) for name in videos}
    rows = [
        Interval(name, 0.0, math.inf, label, where) for name, (label, where) in found.labels.items() if name in known
    ]
    if not rows:
        raise LabelError(
            f"none of the {len(found.labels)} labels names a video of this set: bring the clips in with "
            "`posewatch import-clips`"
        )
    return import_labels(labels, list(clip_entries(clips)), rows, config, videos=videos, warn=warn)
