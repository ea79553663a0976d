"""Clips → skeletons: one pass of the pose estimator over each video, cut into the clips that ``split`` made."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.artifact import Artifact, Job, collect, get, members, produce
from posewatch.config import PoseConfig
from posewatch.digests import canonical
from posewatch.perception.storage import DETECTIONS, read_detections, write_detections
from posewatch.records import Detections
from posewatch.stages.contents import clips_of, row_of
from posewatch.stages.parallel import each
from posewatch.store import ObjectStore

POSES = "poses.npz"


def _make(job: Job, config: PoseConfig, folder: Path, workers: int = 1) -> None:
    from posewatch.perception.skeletons import follow, skeleton

    clips, masked = job.parents[:2]
    report = masked.json("report.json")
    frames = _stored(masked, config)
    if frames is None:
        poses = _poses(masked, config, job.weights, workers)
        with tempfile.TemporaryDirectory(prefix="posewatch-poses-") as temp:
            frames = follow(read_detections(poses.fetch(POSES, Path(temp))), config)
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


def _stored(masked: Artifact, config: PoseConfig) -> list[Detections] | None:
    """What masking saw in the raw frames, where raw frames are wanted and it was the same network: no second look."""
    if config.source != "raw" or masked.lineage().config.get("detector") != config.estimator:
        return None
    with tempfile.TemporaryDirectory(prefix="posewatch-poses-") as temp:
        return read_detections(masked.fetch(DETECTIONS, Path(temp)))


def _poses(masked: Artifact, config: PoseConfig, weights: dict[str, dict[str, str]], workers: int) -> Artifact:
    """All that the network sees in the frames of one video, kept for whatever clips and settings come later."""
    from posewatch.perception.skeletons import check, estimate_video

    check(config)
    store = masked.store
    about = {k: getattr(config, k) for k in ("estimator", "weights", "source")}
    lineage = masked.lineage()
    job = Job("poses", lineage.unit, about, (masked,), weights)

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="posewatch-pose-") as temp:
            if config.source == "masked":
                found = estimate_video(masked.fetch("masked.mp4", Path(temp)), config, workers=workers)
            else:
                raw = get(store, lineage.parents[0].prefix)
                name = next(n for n in raw.files if n.startswith("video.") and n != "video.json")
                grid = {"fps": lineage.config["fps"], "max_side": lineage.config["max_side"]}
                found = estimate_video(raw.fetch(name, Path(temp)), config, workers=workers, **grid)
        write_detections(folder / POSES, found)

    return produce(store, job, make)


def pose(store: ObjectStore, clips: Artifact, config: PoseConfig) -> Artifact:
    """Skeletons of every clip of a set; returns the set of skeletons (``skeletons.npz``: clip id → (M, T, V, 3))."""
    from posewatch.perception.networks import weights_of

    rows = members(clips)
    weights = weights_of(config)
    # where it ran changes nothing that the stage promises
    about = {k: v for k, v in dataclasses.asdict(config).items() if k != "device"}
    jobs = []
    for row, artifact in rows:
        masked = get(store, artifact.lineage().parents[0].prefix)
        jobs.append(Job("skeletons", row["video"], about, (artifact, masked), weights))
    names = [row["names"][0] for row, _ in rows]
    return collect(
        store, "pose", [row_of(row) for row, _ in rows], each(store, "pose", jobs, names, config, _make, share=True)
    )
