"""Video → persons per frame → the skeleton of a clip."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from posewatch import video
from posewatch.config import PoseConfig
from posewatch.errors import ConfigError
from posewatch.perception.networks import build_estimator
from posewatch.perception.ports import Image, PoseEstimator
from posewatch.perception.tracking.identities import track
from posewatch.perception.tracking.tracker import Tracker
from posewatch.perception.workers import Crew, result, shards
from posewatch.records import Detections, Skeleton

FRAMES = ("masked", "raw")
_BLACK = 24
"""Encoded black is not quite 0; a frame that is no brighter anywhere shows nobody, and no network needs to look."""


def estimate_video(
    path: Path,
    config: PoseConfig,
    *,
    estimator: PoseEstimator | None = None,
    fps: float | None = None,
    max_side: int | None = None,
    workers: int = 1,
) -> list[Detections]:
    """All that the estimator sees in every frame, weak detections too, at ``fps`` (the video's own rate when None).

    The frames are shared among ``workers`` processes, whose number changes nothing.
    """
    check(config)
    build = partial(build_estimator, config) if estimator is None else (lambda: estimator)
    crew: Crew[PoseEstimator] = Crew(build, 1 if estimator is not None else workers)
    dark = config.source == "masked"
    frames: list[Detections] = []
    waiting: deque[Future[list[Detections]]] = deque()
    with contextlib.closing(video.ahead(video.read(Path(path), fps, max_side))) as source, crew:  # type: ignore[type-var]
        for number, shard in enumerate(shards(source)):
            waiting.append(crew.submit(number, _estimate, [f.image for f in shard], dark))
            if len(waiting) >= crew.depth:
                found = result(waiting.popleft())
                frames += found
        for future in waiting:
            found = result(future)
            frames += found
    return frames


def _estimate(estimator: PoseEstimator, images: list[Image], dark: bool) -> list[Detections]:
    seen = [i for i, image in enumerate(images) if not dark or image.max() > _BLACK]
    found = [Detections.none(17) for _ in images]
    if seen:
        for i, persons in zip(seen, estimator.estimate([images[i] for i in seen]), strict=True):
            found[i] = persons
    return found


def follow(frames: Sequence[Detections], config: PoseConfig) -> list[Detections]:
    """The persons of each frame who can be believed.

    Weak detections stay only where they go on with a person who was surely seen, over the whole video, so that
    somebody lying on the ground is not lost at a clip's border.
    """
    tracker = Tracker(config.min_score, config.hold)
    return [found.pick([i for _, i in tracker.update(found)]) for found in frames]


def pose_video(
    path: Path,
    config: PoseConfig,
    *,
    estimator: PoseEstimator | None = None,
    stored: Sequence[Detections] | None = None,
) -> list[Detections]:
    """Persons with keypoints in every frame of a video, at the video's own rate.

    With ``config.source`` "raw", ``stored`` (what masking saw in the raw frames, if it has keypoints) is used and
    the video is not read.
    """
    check(config)
    if config.source == "raw" and stored is not None and has_keypoints(stored):
        return list(stored)
    return follow(estimate_video(path, config, estimator=estimator), config)


def has_keypoints(frames: Sequence[Detections]) -> bool:
    """Whether every person of the frames has a skeleton."""
    return all(d.keypoints is not None for d in frames if len(d))


def check(config: PoseConfig) -> None:
    """Raises ConfigError for values out of range."""
    if config.source not in FRAMES:
        raise ConfigError(f"pose.source must be one of {', '.join(FRAMES)}, not {config.source!r}")
    if config.max_people < 1:
        raise ConfigError(f"pose.max_people must be at least 1, not {config.max_people}")


def skeleton(frames: Sequence[Detections], config: PoseConfig, fps: float, width: int, height: int) -> Skeleton:
    """The skeleton (M, T, V, 3) of a clip from the persons of its T frames, as ``pose_video`` gives them."""
    check(config)
    return Skeleton(track(frames, config.max_people, config.hold), fps, width, height)
