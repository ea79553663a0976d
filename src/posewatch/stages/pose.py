"""Clips → skeletons: one pass of the pose estimator over each video, cut into the clips that ``split`` wrote."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import PoseConfig
from posewatch.digests import canonical
from posewatch.records import Detections
from posewatch.stages import per_video
from posewatch.stages.contents import (
    POSES,
    SKELETONS,
    SKELETONS_ABOUT,
    clips_of,
    detections_of,
    mask_report,
    masked_file,
    masked_frame,
    masked_of,
    raw_file,
    raw_of,
    videos_of,
)
from posewatch.store import ObjectStore
from posewatch.units import SCENE, unit_of


def pose(store: ObjectStore, clips: Artifact, config: PoseConfig) -> Artifact:
    """Skeletons of every clip of a set; returns the set of skeletons (``skeletons.npz``: clip id → (M, T, V, 3))."""
    from posewatch.perception.networks import weights_of

    videos, weights = list(videos_of(clips)), weights_of(config)
    # the device changes nothing that the stage promises
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k != "device"}
    jobs = [Job("skeletons", v.video, settings, (v.artifact, masked_of(v.artifact)), weights) for v in videos]
    return per_video.run(store, "pose", videos, jobs, config, _write, share=True)


def _write(job: Job, config: PoseConfig, folder: Path, workers: int = 1) -> None:
    from posewatch.perception.skeletons import follow, skeleton

    clips, masked = job.parents
    report = mask_report(masked)
    frames = _from_masking(masked, config)
    if frames is None:
        frames = follow(detections_of(_estimate(masked, config, job.weights, workers), POSES), config)
    arrays: dict[str, Any] = {}
    persons = {}
    for clip in clips_of(clips):
        first = masked_frame(report, clip.start_s)
        of_clip = skeleton(frames[first : first + clip.frames], config, clip.fps, clip.width, clip.height)
        arrays[clip.id] = of_clip.keypoints
        persons[clip.id] = of_clip.persons
    about = {"fps": report["fps"], "width": report["width"], "height": report["height"], "layout": "coco17"}
    np.savez_compressed(folder / SKELETONS, **arrays)
    (folder / SKELETONS_ABOUT).write_text(canonical({**about, "persons": persons}) + "\n", encoding="utf-8")


def _from_masking(masked: Artifact, config: PoseConfig) -> list[Detections] | None:
    """The detections of masking, when the same network is asked for skeletons of the raw frames; else None."""
    if config.source != "raw" or masked.lineage().config.get("detector") != config.estimator:
        return None
    return detections_of(masked)


def _boxes_of_masking(masked: Artifact, config: PoseConfig) -> list[Detections] | None:
    """The persons whom masking found, when it had the detector that the estimator is to have; else None."""
    made = masked.lineage().config
    if (made.get("detector"), made.get("detector_weights", "")) != (config.boxes, config.boxes_weights):
        return None
    return detections_of(masked) if unit_of(made) == SCENE else None


def _estimate(masked: Artifact, config: PoseConfig, weights: dict[str, dict[str, str]], workers: int) -> Artifact:
    """All detections of the estimator in one video, an artifact that later clips and settings use again."""
    from posewatch.perception.networks import NETWORKS
    from posewatch.perception.skeletons import estimate_video
    from posewatch.perception.storage import write_detections

    topdown = NETWORKS[config.estimator].topdown
    keys = ("estimator", "weights", "source", *(("boxes", "boxes_weights") if topdown else ()))
    settings = {key: getattr(config, key) for key in keys}
    lineage = masked.lineage()
    found = _boxes_of_masking(masked, config) if topdown else None

    def write(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="posewatch-pose-") as temp:
            if config.source == "masked":
                frames = estimate_video(masked_file(masked, Path(temp)), config, workers=workers, found=found)
            else:
                grid = {"fps": lineage.config["fps"], "max_side": lineage.config["max_side"]}
                raw = raw_file(raw_of(masked), Path(temp))
                frames = estimate_video(raw, config, workers=workers, found=found, **grid)
        write_detections(folder / POSES, frames)

    return produce(masked.store, Job("poses", lineage.unit, settings, (masked,), weights), write)
