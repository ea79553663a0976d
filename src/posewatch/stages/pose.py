"""Clips → skeletons: one pass of the pose estimator over each video, cut into the clips that ``split`` made."""

from __future__ import annotations

import dataclasses
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.artifact import Artifact, Job, collect, get, members
from posewatch.config import PoseConfig, canonical
from posewatch.records import Skeleton
from posewatch.stages.mask import row_of
from posewatch.stages.parallel import each
from posewatch.stages.split import clips_of
from posewatch.store import ObjectStore


def _make(job: Job, config: PoseConfig, folder: Path) -> None:
    from posewatch.masking.mask import read_detections
    from posewatch.pose.extract import pose_video, skeleton

    clips, masked = job.parents[:2]
    report = masked.json("report.json")
    with tempfile.TemporaryDirectory(prefix="posewatch-pose-") as temp:
        # what masking saw in the raw frames needs no second look
        stored = read_detections(masked.fetch("detections.npz", Path(temp))) if config.frames == "raw" else None
        frames = pose_video(masked.fetch("masked.mp4", Path(temp)), config, stored=stored)
    arrays: dict[str, Any] = {}
    persons = {}
    for clip in clips_of(clips):
        first = round(clip.start_s * clip.fps)
        found = skeleton(frames[first : first + clip.frames], config, clip.fps, clip.width, clip.height)
        arrays[clip.id] = found.keypoints
        persons[clip.id] = found.persons
    about = {"fps": report["fps"], "width": report["width"], "height": report["height"], "layout": "coco17"}
    np.savez_compressed(folder / "skeletons.npz", **arrays)
    (folder / "skeletons.json").write_text(canonical({**about, "persons": persons}) + "\n", encoding="utf-8")


def pose(store: ObjectStore, clips: Artifact, config: PoseConfig) -> Artifact:
    """Skeletons of every clip of a set; returns the set of skeletons (``skeletons.npz``: clip id → (M, T, V, 3))."""
    from posewatch.pose import weights_of

    rows = members(clips)
    weights = weights_of(config)
    jobs = []
    for row, artifact in rows:
        masked = get(store, artifact.lineage().parents[0].prefix)
        jobs.append(Job("skeletons", row["video"], dataclasses.asdict(config), (artifact, masked), weights))
    names = [row["names"][0] for row, _ in rows]
    return collect(store, "pose", [row_of(row) for row, _ in rows], each(store, "pose", jobs, names, config, _make))


def skeletons_of(artifact: Artifact) -> dict[str, Skeleton]:
    """Clip id → skeleton, of one video."""
    about = artifact.json("skeletons.json")
    about.pop("persons")
    with np.load(io.BytesIO(artifact.read("skeletons.npz"))) as arrays:
        return {name: Skeleton(arrays[name], **about) for name in arrays.files}
