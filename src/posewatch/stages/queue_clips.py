"""Clips → the labelers' queue, with small previews for the labeling page."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

from posewatch.artifact import Artifact, Job, find
from posewatch.errors import LabelError
from posewatch.labels.previews import SIDE, joints, shrink
from posewatch.labels.store import LabelStore
from posewatch.records import Skeleton
from posewatch.stages import per_video
from posewatch.stages.contents import (
    ALARMS,
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
    """Register the clips of a set with the label store, so that labelers get them; returns the number of clips.

    Raises LabelError where labels belong to persons as a former masking tracked them, which are other people now.
    """
    for item in videos_of(clips):
        _require_same_persons(item.artifact, item.names[0], labels)
    entries, count = clip_entries(clips, previews), 0
    while batch := list(itertools.islice(entries, BATCH)):
        labels.register(batch)
        count += len(batch)
    return count


def _require_same_persons(clips: Artifact, name: str, labels: LabelStore) -> None:
    """Raises LabelError when labelled clips of this video show persons of the same numbers who are somebody else."""
    records = clips_of(clips)
    if all(clip.person is None for clip in records) or ALARMS in clips.files:
        return
    known = [e for e in labels.clips(records[0].video_id) if e.clip.person is not None and e.store == clips.store.uri]
    former = {e.key.rpartition("/")[0] for e in known} - {clips.prefix}
    labelled = set(labels.current(e.clip.id for e in known))
    now = {person.person: person for person in persons_of(masked_of(clips))}
    for prefix in sorted(former):
        old = find(clips.store, prefix)
        if old is None:
            continue
        for person in persons_of(masked_of(old)):
            other = now.get(person.person, person)
            same = (other.first, other.boxes[0]) == (person.first, person.boxes[0])
            theirs = {e.clip.id for e in known if e.clip.person == person.person and e.key.startswith(f"{prefix}/")}
            if not same and labelled & theirs:
                raise LabelError(
                    f"{name} #{person.person} was somebody else when its clips were labelled: masking with other"
                    " settings tracked the people anew (take another label store, or the former mask settings)"
                )


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
            if f"{clip.id}.mp4" not in clips.files:  # of an alarm that was recorded while the disk was full
                continue
            source = clips.fetch(f"{clip.id}.mp4", Path(temp))
            size = shrink(source, folder / f"{clip.id}.mp4", clip.fps, int(job.config["side"]))
            source.unlink()
            if clip.id in poses:
                (folder / f"{clip.id}.json").write_text(joints(poses[clip.id], size), encoding="utf-8")


def _in_clips(clips: Artifact, poses: dict[str, Skeleton]) -> dict[str, Skeleton]:
    """Skeletons in pixels of the clips: those of cropped persons are in pixels of the scene."""
    from posewatch.perception.one_person import in_crop

    if all(clip.person is None for clip in clips_of(clips)) or ALARMS in clips.files:
        return poses
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
