"""MMPose: what its inferencer and its demos write, and the paper's tools leave; one JSON file per video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.datasets import layouts
from posewatch.datasets.paper import stem
from posewatch.errors import InputError
from posewatch.perception.poses.clip import LONGEST, PoseClip
from posewatch.records import Detections
from posewatch.text import read_json


def claims(data: Any) -> bool:
    """A list of frames with ``instances``, or of a picture's instances; or {meta_info, instance_info}."""
    if isinstance(data, Mapping):
        return "instance_info" in data
    if not isinstance(data, list) or not data or not isinstance(data[0], Mapping):
        return False
    return "instances" in data[0] or {"keypoints", "keypoint_scores"} <= set(data[0])


def read(files: Iterable[tuple[Path, Any]]) -> Iterator[PoseClip]:
    """A clip of each file."""
    for path, data in files:
        yield PoseClip(stem(path.name), frames_of(data, path), str(path), _layout(data))


def _layout(data: Any) -> str:
    """The layout whose joints the file's ``meta_info`` names, if it does."""
    about = data.get("meta_info") if isinstance(data, Mapping) else None
    named = about.get("keypoint_id2name") if isinstance(about, Mapping) else None
    return layouts.named(list(named.values())) if isinstance(named, Mapping) else ""


def read_mmpose(path: Path | str) -> list[Detections | None]:
    """The persons of every frame of one file, as ``frames_of`` has them."""
    return frames_of(read_json(path), path)


def frames_of(data: Any, path: Path | str) -> list[Detections | None]:
    """The persons of every frame: a list of frames with ``instances``, or {meta_info, instance_info}.

    Frames that the file leaves out by their ``frame_id`` are None, as those without persons. Raises InputError for
    another file and for numbers that are none.
    """
    frames = data.get("instance_info") if isinstance(data, Mapping) else data
    if not isinstance(frames, list) or not all(isinstance(frame, Mapping) for frame in frames):
        raise InputError(f"{path} is not what MMPose writes: a list of frames, or meta_info and instance_info")
    if frames and "instances" not in frames[0] and "keypoints" in frames[0]:
        frames = [{"instances": frames}]  # the demos' form of a single picture
    if not all(isinstance(frame.get("frame_id", 0), int) for frame in frames):
        raise InputError(f"{path}: a frame_id is no whole number")
    out: list[Detections | None] = []
    first = min((int(frame.get("frame_id", 0)) for frame in frames), default=0)
    for number, frame in enumerate(frames):
        place = int(frame.get("frame_id", number + first)) - first
        if place < len(out) or place > len(out) + LONGEST:
            raise InputError(f"{path}: frame {number} has the frame_id {frame.get('frame_id')}, which is out of order")
        out += [None] * (place - len(out))
        out.append(_frame(frame.get("instances"), f"{path}: frame {number}"))
    return out


def _frame(instances: Any, where: str) -> Detections | None:
    if not isinstance(instances, list):
        raise InputError(f"{where} has no list of instances")
    if not instances:
        return None
    try:
        xy = np.array([one["keypoints"] for one in instances], np.float32)
        sure = np.array([one["keypoint_scores"] for one in instances], np.float32)
        scores = np.array([one.get("bbox_score", np.mean(one["keypoint_scores"])) for one in instances], np.float32)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{where}: an instance needs keypoints and keypoint_scores, as numbers") from None
    if xy.ndim != 3 or xy.shape[2] not in (2, 3) or sure.shape != xy.shape[:2]:
        raise InputError(f"{where}: keypoints {xy.shape} and keypoint_scores {sure.shape} do not fit each other")
    xy = xy[..., :2]
    if not (np.isfinite(xy).all() and np.isfinite(sure).all()):
        raise InputError(f"{where} holds NaN or infinite numbers")
    boxes = np.concatenate([xy.min(1), xy.max(1)], 1)
    keypoints = np.concatenate([xy, np.clip(sure, 0, 1)[..., None]], -1)
    return Detections(boxes, np.clip(scores, 0, 1), keypoints)
