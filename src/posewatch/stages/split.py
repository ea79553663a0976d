"""Masked video → clips of a fixed length, H.264 files that a browser plays, with their records in ``clips.jsonl``.

The clips of single persons begin and end when those of the scene would, so that the persons of a moment stand beside
each other; while the person is not there they are black.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from posewatch.artifact import Artifact, Job
from posewatch.config import SplitConfig
from posewatch.digests import canonical
from posewatch.perception.persons import Person
from posewatch.records import Clip, clip_id
from posewatch.stages import per_video
from posewatch.stages.contents import (
    CLIPS,
    detections_of,
    mask_report,
    masked_file,
    masked_parts,
    masked_unit,
    persons_of,
    videos_of,
)  # fmt: skip
from posewatch.store import ObjectStore
from posewatch.units import PERSON


def split(store: ObjectStore, masked: Artifact, config: SplitConfig) -> Artifact:
    """Split every video of a masked set; returns the set of clips (``<clip id>.mp4`` and ``clips.jsonl`` per video)."""
    videos = list(videos_of(masked))
    jobs = [Job("clips", v.video, dataclasses.asdict(config), (v.artifact,)) for v in videos]
    return per_video.run(store, "split", videos, jobs, config, _write)


def _write(job: Job, config: SplitConfig, folder: Path) -> None:
    from posewatch import video

    masked = job.parents[0]
    if masked_unit(masked) == PERSON:
        return _write_persons(job, config, folder)
    report = mask_report(masked)
    people = np.array([len(frame) for frame in detections_of(masked)])
    lines = []
    parts = masked_parts(report)
    with tempfile.TemporaryDirectory(prefix="posewatch-split-", dir=folder) as temp:
        source = masked_file(masked, Path(temp))
        stretches = [(first, count) for first, count, _ in parts] if report.get("gaps") else None
        for span in video.split(source, Path(temp) / "clips", config.length_s, config.overlap_s, stretches):
            ahead_s = max(ahead for first, _, ahead in parts if first <= span.first)
            start, length = round(span.start_s + ahead_s, 3), round(span.length_s, 3)
            first = span.first
            clip = Clip(
                id=clip_id(job.unit, start, length),
                video_id=job.unit,
                start_s=start,
                length_s=length,
                fps=report["fps"],
                frames=span.frames,
                width=report["width"],
                height=report["height"],
                people=round(float(people[first : first + span.frames].mean()), 3) if span.frames else 0.0,
            )
            span.path.replace(folder / f"{clip.id}.mp4")
            lines.append(canonical(clip.to_dict()) + "\n")
    (folder / CLIPS).write_text("".join(lines), encoding="utf-8")


def windows(parts: Sequence[tuple[int, int, float]], length: int, overlap: int) -> list[tuple[int, int, float]]:
    """(first frame, frames, seconds by which the raw video is ahead) of the clips of a masked video, from its parts."""
    from posewatch import video

    return [
        (begin + first, count, ahead_s)
        for begin, total, ahead_s in parts
        for first, count in video.spans(total, length, overlap)
    ]


def present(person: Person, plan: Sequence[tuple[int, int, float]], least: int) -> list[tuple[int, int, float]]:
    """The windows in which a person is there for ``least`` frames; of one who is in none, the fullest one."""

    def frames(window: tuple[int, int, float]) -> int:
        return min(person.end, window[0] + window[1]) - max(person.first, window[0])

    chosen = [window for window in plan if frames(window) >= min(least, window[1])]
    return chosen or [max(plan, key=frames)]


def _write_persons(job: Job, config: SplitConfig, folder: Path) -> None:
    """The clips of each person of a video."""
    from posewatch import video

    masked = job.parents[0]
    report, lines = mask_report(masked), []
    fps = report["fps"]
    plan = windows(masked_parts(report), round(config.length_s * fps), round(config.overlap_s * fps))
    least = max(1, round(masked.lineage().config["min_presence_s"] * fps))
    for person in persons_of(masked):
        mine = present(person, plan, least)
        ahead = {first: ahead_s for first, _, ahead_s in mine}
        with tempfile.TemporaryDirectory(prefix="posewatch-split-", dir=folder) as temp:
            source = masked.fetch(person.file, Path(temp))
            info = video.probe(source)
            for span in video.cut(source, Path(temp) / "clips", [w[:2] for w in mine], person.first):
                start, length = round(span.start_s + ahead[span.first], 3), round(span.length_s, 3)
                begin = span.first - person.first
                seen = sum(box is not None for box in person.boxes[max(0, begin) : max(0, begin + span.frames)])
                clip = Clip(
                    id=clip_id(job.unit, start, length, person.person),
                    video_id=job.unit,
                    start_s=start,
                    length_s=length,
                    fps=fps,
                    frames=span.frames,
                    width=info.width,
                    height=info.height,
                    people=round(seen / span.frames, 3),
                    person=person.person,
                )
                span.path.replace(folder / f"{clip.id}.mp4")
                lines.append(canonical(clip.to_dict()) + "\n")
    (folder / CLIPS).write_text("".join(lines), encoding="utf-8")
