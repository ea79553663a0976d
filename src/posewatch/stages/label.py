"""Clips and people's labels: put clips on the labelers' queue, import labels, wait for enough of them, freeze them.

Labels live in the label store (a database); they enter it as events with their source and leave it as a snapshot.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posewatch.artifact import MEMBERS, Artifact, Job, get, members, produce, walk
from posewatch.config import LabelConfig
from posewatch.labels.clip_labels import names_clips
from posewatch.labels.gate import wait_for_labels
from posewatch.labels.importers import find_labels, import_clip_labels, import_labels
from posewatch.labels.snapshot import read_parquet, snapshot, write_parquet
from posewatch.labels.store import ClipEntry, LabelStore
from posewatch.progress import Progress
from posewatch.stages.ingest import local
from posewatch.stages.split import clips_of
from posewatch.store import ObjectStore

if TYPE_CHECKING:
    from posewatch.serving.client import Predictor

SNAPSHOT = "labels.parquet"
REGISTERED = 20_000
"""Clips that are put on the queue in one transaction."""


def entries(clips: Artifact, previews: Artifact | None = None) -> list[ClipEntry]:
    """What the label store knows of every clip of a set, with the previews that `preview.preview` made."""
    return list(stream(clips, previews))


def stream(clips: Artifact, previews: Artifact | None = None) -> Iterator[ClipEntry]:
    """What `entries` gives, one by one: a set of millions of clips is never held as a whole."""
    small = {row["video"]: row for row in previews.lines(MEMBERS)} if previews is not None else {}
    for row, artifact in walk(clips):
        shown = get(clips.store, small[row["video"]]["prefix"]) if row["video"] in small else None

        def file(name: str, shown: Artifact | None = shown) -> str | None:
            return f"{shown.prefix}/{name}" if shown is not None and name in shown.files else None

        for clip in clips_of(artifact):
            yield ClipEntry(
                clip=clip,
                names=tuple(row["names"]),
                store=clips.store.uri,
                key=f"{artifact.prefix}/{clip.id}.mp4",
                preview=file(f"{clip.id}.mp4"),
                skeleton=file(f"{clip.id}.json"),
            )


def queue(clips: Artifact, labels: LabelStore, previews: Artifact | None = None) -> int:
    """Register the clips of a set with the label store, which makes them appear to labelers; returns their number."""
    found, count = stream(clips, previews), 0
    # one transaction for millions of clips would hold all of them in memory, and their locks for minutes
    while part := list(itertools.islice(found, REGISTERED)):
        labels.register(part)
        count += len(part)
    return count


def bring(clips: Artifact, source: str, labels: LabelStore, config: LabelConfig) -> dict[str, Any]:
    """Import the label files of ``source`` as events of source "import".

    A folder, a labels.csv or an s3:// URI of timed labels; or a file or folder that names clips by their ids, as
    ``posewatch labels export`` writes them.
    """
    names = [name for row, _ in members(clips) for name in row["names"]]
    with local(source) as path, Progress("labels", 1, "import") as progress:
        if names_clips(path):
            report = import_clip_labels(labels, path, config)
        else:
            intervals = find_labels(path, config, warn=progress.say)
            report = import_labels(labels, entries(clips), intervals, config, videos=names)
        progress.advance()
    return dataclasses.asdict(report)


def wait(clips: Artifact, labels: LabelStore, config: LabelConfig) -> dict[str, int]:
    """Poll until every class has enough labelled clips; returns the counts. Raises LabelError after the time-out."""
    ids = [entry.clip.id for entry in stream(clips)]
    with Progress("label gate", len(config.classes) * config.min_per_class, "label") as progress:
        return wait_for_labels(labels, config, progress, clip_ids=ids)


def freeze(
    store: ObjectStore, clips: Artifact, labels: LabelStore, config: LabelConfig, allow_disagreement: bool = False
) -> Artifact:
    """Freeze the current labels of a set's clips; the same labels give the same snapshot.

    Raises LabelError while people disagree on a clip, unless ``allow_disagreement``.
    """
    found = snapshot(labels, [entry.clip.id for entry in stream(clips)], allow_disagreement=allow_disagreement)
    job = Job("snapshots", "", {"labels": found.digest, "classes": list(config.classes)}, (clips,))
    return produce(store, job, lambda folder: write_parquet(found, folder / SNAPSHOT))


def refresh(
    clips: Artifact, skeletons: Artifact, labels: LabelStore, predictor: Predictor, version: str, config: LabelConfig
) -> dict[str, int]:
    """Score the clips of a set that nobody has labelled with a model, and order the queue by what it says.

    ``predictor`` has ``frames`` and ``people``, as served and exported models do. Clips in which nobody was seen keep
    their place at the end of the queue. Raises LabelError for a model of other classes.
    """
    import numpy as np

    from posewatch.labels import active
    from posewatch.recognition.dataset import resample
    from posewatch.records import Prediction
    from posewatch.stages.pose import skeletons_of

    frames, people = int(predictor.frames), int(predictor.people)  # type: ignore[attr-defined]
    poses = {row["video"]: artifact for row, artifact in members(skeletons)}
    done = {clip for clip, event in labels.current().items() if event.source != "model"}
    ids: list[str] = []
    parts: list[Prediction] = []
    rows = [(row, artifact) for row, artifact in members(clips) if row["video"] in poses]
    with Progress("refresh", len(rows)) as progress:
        for row, artifact in rows:
            found = skeletons_of(poses[row["video"]])
            waiting = [c.id for c in clips_of(artifact) if c.id not in done and c.id in found and found[c.id].persons]
            if waiting:
                parts.append(predictor.predict(resample([found[c].keypoints for c in waiting], frames, people)))
                ids += waiting
            progress.advance()
    if not ids:
        return {"scored": 0, "ordered": 0, "random": 0}
    embeddings = [part.embedding for part in parts if part.embedding is not None]
    joined = Prediction(
        np.concatenate([part.probabilities for part in parts]),
        parts[0].labels,
        np.concatenate(embeddings) if len(embeddings) == len(parts) else None,
    )
    return dataclasses.asdict(active.refresh(labels, ids, joined, version, config))


def labels_of(artifact: Artifact, folder: Path) -> list[dict[str, Any]]:
    """The rows of a snapshot: clip_id, video_id, label, source, who, model_version."""
    return list(read_parquet(artifact.fetch(SNAPSHOT, folder)).rows)
