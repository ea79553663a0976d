"""Clips → the labelers' queue, with small previews for the labeling page."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

from posewatch.artifact import Artifact, Job
from posewatch.labels.previews import SIDE, joints, shrink
from posewatch.labels.store import LabelStore
from posewatch.records import Skeleton
from posewatch.stages import per_video
from posewatch.stages.contents import (
    by_video,
    clip_entries,
    clips_of,
    mask_report,
    masked_frame,
    masked_of,
    persons_of,
    skeletons_of,
    videos_of,
)  # fmt: skip
from posewatch.store import ObjectStore

BATCH = 20_000
"""Clips registered in one transaction: one for millions would hold all of them in memory, and its locks for minutes."""


def queue_clips(clips: Artifact, labels: LabelStore, previews: Artifact | None = None) -> int:
    """Register the clips of a set with the label store, so that labelers get them; returns the number of clips."""
    entries, count = clip_entries(clips, previews), 0
    while batch := list(itertools.islice(entries, BATCH)):
        labels.register(batch)
        count += len(batch)
    return count


def previews(store: ObjectStore, clips: Artifact, skeletons: Artifact, side: int = SIDE) -> Artifact:
    """Previews of every clip of a set (``<clip id>.mp4``, joints in ``<clip id>.json``); returns their set."""
    poses = by_video(skeletons)
    videos = [item for item in videos_of(clips) if item.video in poses]
    jobs = [Job("previews", v.video, {"side": side}, (v.artifact, poses[v.video])) for v in videos]
    return per_video.run(store, "preview", videos, jobs, None, _write)


def _write(job: Job, _: Any, folder: Path) -> None:
    clips, skeletons = job.parents
    poses = _in_clips(clips, skeletons_of(skeletons))
    with tempfile.TemporaryDirectory(prefix="posewatch-preview-") as temp:
        for clip in clips_of(clips):
            source = clips.fetch(f"{clip.id}.mp4", Path(temp))
            size = shrink(source, folder / f"{clip.id}.mp4", clip.fps, int(job.config["side"]))
            source.unlink()
            if clip.id in poses:
                (folder / f"{clip.id}.json").write_text(joints(poses[clip.id], size), encoding="utf-8")


def _in_clips(clips: Artifact, poses: dict[str, Skeleton]) -> dict[str, Skeleton]:
    """Skeletons in pixels of the clips: those of cropped persons are in pixels of the scene."""
    from posewatch.perception.one_person import in_crop

    masked = masked_of(clips)
    people = {person.person: person for person in persons_of(masked) if person.views}
    if not people:
        return poses
    report = mask_report(masked)
    return {
        clip.id: in_crop(poses[clip.id], people[clip.person], masked_frame(report, clip.start_s))
        for clip in clips_of(clips)
        if clip.id in poses and clip.person in people
    }
