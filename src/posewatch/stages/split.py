"""Masked video → clips of a fixed length, H.264 files that a browser plays, with their records in ``clips.jsonl``."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from posewatch.artifact import Artifact, Job
from posewatch.config import SplitConfig
from posewatch.digests import canonical
from posewatch.records import Clip, clip_id
from posewatch.stages import per_video
from posewatch.stages.contents import CLIPS, detections_of, mask_report, masked_file, masked_parts, videos_of
from posewatch.store import ObjectStore


def split(store: ObjectStore, masked: Artifact, config: SplitConfig) -> Artifact:
    """Split every video of a masked set; returns the set of clips (``<clip id>.mp4`` and ``clips.jsonl`` per video)."""
    videos = list(videos_of(masked))
    jobs = [Job("clips", v.video, dataclasses.asdict(config), (v.artifact,)) for v in videos]
    return per_video.run(store, "split", videos, jobs, config, _write)


def _write(job: Job, config: SplitConfig, folder: Path) -> None:
    from posewatch import video

    masked = job.parents[0]
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
