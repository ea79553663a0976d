"""Video → persons in every frame → the skeleton of a clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import cast

from posewatch import video
from posewatch.config import PoseConfig
from posewatch.perception.networks import build_estimator
from posewatch.perception.ports import Image, PoseEstimator, TopDownEstimator
from posewatch.perception.repeats import each_once
from posewatch.perception.tracking.both_ways import BothWays
from posewatch.perception.tracking.identities import track
from posewatch.perception.tracking.matching import merged
from posewatch.perception.workers import WorkerPool, shards
from posewatch.records import Detections, Skeleton

_BLACK = 24
"""The highest value of encoded black, which is not quite 0. A black frame skips the network: it shows no person."""


def estimate_video(
    path: Path,
    config: PoseConfig,
    *,
    estimator: PoseEstimator | None = None,
    fps: float | None = None,
    max_side: int | None = None,
    workers: int = 1,
    found: Sequence[Detections] | None = None,
) -> list[Detections]:
    """The estimator's detections in every frame, weak ones too, at ``fps`` (None: the video's own rate).

    ``workers`` processes share the frames; their number does not change the result. ``found`` holds the persons of each
    frame for an estimator that looks at one at a time; without it, its own detector finds them.
    """
    return list(_estimated(path, config, estimator, fps, max_side, workers, found).values())


def estimate_stretches(
    path: Path, config: PoseConfig, *, estimator: PoseEstimator | None = None, fps: float, max_side: int | None = None
) -> list[tuple[float, list[Detections]]]:
    """The same as (start in seconds, detections of each frame) for every stretch of the video between its gaps."""
    found = _estimated(path, config, estimator, fps, max_side, 1)
    return [(first / fps, [found[i] for i in range(first, first + count)]) for first, count in video.stretches(found)]


def _estimated(
    path: Path,
    config: PoseConfig,
    estimator: PoseEstimator | None,
    fps: float | None,
    max_side: int | None,
    workers: int,
    known: Sequence[Detections] | None = None,
) -> dict[int, Detections]:
    """Place on the grid → detections, in order."""
    build = partial(build_estimator, config) if estimator is None else (lambda: estimator)
    pool: WorkerPool[PoseEstimator] = WorkerPool(build, 1 if estimator is not None else workers)
    estimate = partial(_estimate, skip_black=config.source == "masked")
    places: list[int] = []

    def images() -> Iterator[tuple[list[Image], Sequence[Detections] | None]]:
        for shard in shards(frames):
            begin = len(places)
            places.extend(frame.index for frame in shard)
            yield [frame.image for frame in shard], None if known is None else known[begin : len(places)]

    with closing(video.ahead(video.read(Path(path), fps, max_side))) as frames, pool:  # type: ignore[type-var]
        found = [persons for shard in pool.map(estimate, images()) for persons in shard]
    return dict(zip(places, found, strict=True))


def _estimate(
    estimator: PoseEstimator, shard: tuple[list[Image], Sequence[Detections] | None], skip_black: bool
) -> list[Detections]:
    images, known = shard
    lit = [i for i, image in enumerate(images) if not skip_black or image.max() > _BLACK]
    found = [Detections.none(17) for _ in images]
    if lit:
        shown = [images[i] for i in lit]
        if known is None:
            estimated = each_once(estimator.estimate, shown)
        else:
            estimated = cast(TopDownEstimator, estimator).complete(shown, [known[i] for i in lit])
        for i, persons in zip(lit, estimated, strict=True):
            found[i] = persons
    return found


def completed(estimated: Sequence[Detections], masked: Sequence[Detections]) -> list[Detections]:
    """The persons of each masked frame: those that the estimator sees there, and those that masking, with the same
    network, saw in the raw frame. Where both see somebody, the surer joints count."""
    return [merged(both) for both in zip(estimated, masked, strict=True)]


def follow(frames: Sequence[Detections], config: PoseConfig) -> list[Detections]:
    """The tracked persons of each frame of a video.

    Weak detections remain only where they continue a confirmed track, forwards or backwards. Tracking runs over the
    whole video, so that a person on the ground is not lost at a clip's border.
    """
    return BothWays(config.min_score, config.hold).persons(frames)


def skeleton(frames: Sequence[Detections], config: PoseConfig, fps: float, width: int, height: int) -> Skeleton:
    """The skeleton (M, T, V, 3) of a clip from the persons of its T frames, as ``follow`` returns them."""
    return Skeleton(track(frames, config.max_people, config.hold), fps, width, height)
