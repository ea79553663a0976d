"""Video → persons per frame → the skeleton of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from posewatch import video
from posewatch.config import PoseConfig
from posewatch.errors import ConfigError
from posewatch.masking.mask import pick
from posewatch.masking.tracks import Tracker
from posewatch.pose import build_estimator
from posewatch.pose.estimator import PoseEstimator
from posewatch.pose.tracking import track
from posewatch.records import Detections, Skeleton

FRAMES = ("masked", "raw")


def pose_video(
    path: Path,
    config: PoseConfig,
    *,
    estimator: PoseEstimator | None = None,
    stored: Sequence[Detections] | None = None,
) -> list[Detections]:
    """Persons with keypoints in every frame of a video, at the video's own rate.

    With ``config.frames`` "raw", ``stored`` (what masking saw in the raw frames, if it has keypoints) is used and
    the video is not read. Weak detections stay only where they go on with a person who was surely seen, over the
    whole video, so that somebody lying on the ground is not lost at a clip's border.
    """
    if config.frames not in FRAMES:
        raise ConfigError(f"pose.frames must be one of {', '.join(FRAMES)}, not {config.frames!r}")
    if config.frames == "raw" and stored is not None and all(d.keypoints is not None for d in stored if len(d)):
        return list(stored)
    network = estimator or build_estimator(config.estimator)
    tracker = Tracker(config.min_score, config.hold)
    frames: list[Detections] = []
    for frame in video.read(Path(path)):
        found = network.estimate([frame.image])[0]
        frames.append(pick(found, [i for _, i in tracker.update(found)]))
    return frames


def skeleton(frames: Sequence[Detections], config: PoseConfig, fps: float, width: int, height: int) -> Skeleton:
    """The skeleton (M, T, V, 3) of a clip from the persons of its T frames, as ``pose_video`` gives them."""
    if config.max_people < 1:
        raise ConfigError(f"pose.max_people must be at least 1, not {config.max_people}")
    return Skeleton(track(frames, config.max_people, config.hold), fps, width, height)
