"""Masked video → clips of a fixed length, H.264 files that a browser plays, with their records in ``clips.jsonl``."""

from __future__ import annotations

import dataclasses
import io
import tempfile
from pathlib import Path

import numpy as np

from posewatch.artifact import Artifact, Job, collect, members
from posewatch.config import SplitConfig
from posewatch.digests import canonical
from posewatch.records import Clip, clip_id
from posewatch.stages.contents import row_of
from posewatch.stages.parallel import each
from posewatch.store import ObjectStore


def _make(job: Job, config: SplitConfig, folder: Path) -> None:
    from posewatch import video

    masked = job.parents[0]
    report = masked.json("report.json")
    with np.load(io.BytesIO(masked.read("detections.npz"))) as found:
        people = np.bincount(found["frame"].astype(int), minlength=int(report["frames"]))
    lines = []
    with tempfile.TemporaryDirectory(prefix="posewatch-split-", dir=folder) as temp:
        source = masked.fetch("masked.mp4", Path(temp))
        for span in video.split(source, Path(temp) / "clips", config.length_s, config.overlap_s):
            start, length = round(span.start_s, 3), round(span.length_s, 3)
            first = round(start * report["fps"])
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
    (folder / "clips.jsonl").write_text("".join(lines), encoding="utf-8")


def split(store: ObjectStore, masked: Artifact, config: SplitConfig) -> Artifact:
    """Split every video of a masked set; returns the set of clips (``<clip id>.mp4`` and ``clips.jsonl`` per video)."""
    rows = members(masked)
    jobs = [Job("clips", row["video"], dataclasses.asdict(config), (artifact,)) for row, artifact in rows]
    names = [row["names"][0] for row, _ in rows]
    return collect(store, "split", [row_of(row) for row, _ in rows], each(store, "split", jobs, names, config, _make))
