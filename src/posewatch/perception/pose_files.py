"""JSON of poses from MMPose → persons of every frame: what its inferencer and demos, and the paper's tools, leave."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.config import PoseConfig
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.paper import sources_of, stem
from posewatch.errors import InputError
from posewatch.perception.skeletons import follow
from posewatch.perception.tracking.identities import track
from posewatch.records import Detections
from posewatch.text import read_json

COCO = (17, 26, 133)
"""Numbers of joints of the sets whose first 17 are COCO's: COCO itself, Halpe-26, COCO-WholeBody."""


def read_mmpose(path: Path | str) -> list[Detections]:
    """The persons of every frame of one JSON file: a list of frames with ``instances``, or {meta_info, instance_info}.

    Frames that the file leaves out by their ``frame_id`` are empty. Raises InputError for another file, other joints
    than COCO's, and numbers that are none.
    """
    data = read_json(path)
    frames = data.get("instance_info") if isinstance(data, Mapping) else data
    if not isinstance(frames, list) or not all(isinstance(frame, Mapping) for frame in frames):
        raise InputError(f"{path} is not what MMPose writes: a list of frames, or meta_info and instance_info")
    if frames and "instances" not in frames[0] and "keypoints" in frames[0]:
        frames = [{"instances": frames}]  # the demos' form of a single picture
    out: list[Detections] = []
    first = min((int(frame.get("frame_id", 0)) for frame in frames), default=0)
    for number, frame in enumerate(frames):
        place = int(frame.get("frame_id", number + first)) - first
        if place < len(out) or place > len(out) + 1_000_000:
            raise InputError(f"{path}: frame {number} has the frame_id {frame.get('frame_id')}, which is out of order")
        out += [Detections.none(17)] * (place - len(out))
        out.append(_frame(frame.get("instances"), f"{path}: frame {number}"))
    return out


def _frame(instances: Any, where: str) -> Detections:
    if not isinstance(instances, list):
        raise InputError(f"{where} has no list of instances")
    if not instances:
        return Detections.none(17)
    try:
        xy = np.array([one["keypoints"] for one in instances], np.float32)
        sure = np.array([one["keypoint_scores"] for one in instances], np.float32)
        scores = np.array([one.get("bbox_score", np.mean(one["keypoint_scores"])) for one in instances], np.float32)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{where}: an instance needs keypoints and keypoint_scores, as numbers") from None
    if xy.ndim != 3 or xy.shape[2] not in (2, 3) or sure.shape != xy.shape[:2]:
        raise InputError(f"{where}: keypoints {xy.shape} and keypoint_scores {sure.shape} do not fit each other")
    if xy.shape[1] not in COCO:
        raise InputError(f"{where} has {xy.shape[1]} joints: posewatch takes COCO's 17, alone or as the first of a set")
    xy, sure = xy[:, :17, :2], sure[:, :17]
    if not (np.isfinite(xy).all() and np.isfinite(sure).all()):
        raise InputError(f"{where} holds NaN or infinite numbers")
    boxes = np.concatenate([xy.min(1), xy.max(1)], 1)
    keypoints = np.concatenate([xy, np.clip(sure, 0, 1)[..., None]], -1)
    return Detections(boxes, np.clip(scores, 0, 1), keypoints)


def read_folder(folder: Path | str, config: PoseConfig, people: int, fps: float) -> tuple[list[str], ClipSet]:
    """Every ``<clip>.json`` of a folder as skeletons, people followed from frame to frame: names of clips in which
    nobody is seen, and the others, all of the first of two nameless classes.

    ``people`` is M; source videos by the names are the groups. Raises InputError where there are none.
    """
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        raise InputError(f"no .json files in {folder} (give the folder of poses that MMPose wrote, output/pose)")
    empty, names, clips, longest = [], [], [], 0
    for path in files:
        frames = read_mmpose(path)
        longest = max(longest, len(frames))
        keypoints = track(follow(frames, config), people, config.hold)
        if keypoints.shape[1] > 1 and keypoints[..., 2].any():
            names.append(stem(path.name))
            clips.append(keypoints)
        else:
            empty.append(stem(path.name))
    if not clips and longest < 2:
        raise InputError(
            f"each of the {len(files)} files of {folder} is of one picture, and nobody says which belong to one clip: "
            "let MMPose read the videos, not their pictures"
        )
    if not clips:
        raise InputError(f"nobody is seen in any of the {len(files)} files of {folder} (lower pose.min_score?)")
    labels = np.zeros(len(clips), np.int64)
    groups = sources_of(names)
    unit = "person" if people == 1 else "scene"
    return empty, ClipSet(
        tuple(clips), labels, ("class_0", "class_1"), tuple(names), groups, fps, certain=True, unit=unit
    )
