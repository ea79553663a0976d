"""One raw video → the same video with everything but its people black, and the detections beside it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posewatch import video
from posewatch.config import MaskConfig
from posewatch.errors import ConfigError
from posewatch.perception.compose import Composer
from posewatch.perception.crops import CropWriter
from posewatch.perception.networks import NETWORKS, build_detector, build_segmenter
from posewatch.perception.ports import Detector, Image, Masks, Segmenter
from posewatch.perception.storage import DETECTIONS, write_detections
from posewatch.perception.tracking.tracker import Tracker
from posewatch.perception.workers import Crew, result, shards
from posewatch.records import Detections
from posewatch.video import Frame


@dataclass(frozen=True)
class MaskReport:
    """What masking did: ``frames`` at ``fps`` frames per second, pixels, seconds.

    ``frames_with_people`` counts frames in which somebody is visible, held masks included; ``people_mean`` is the mean
    number of persons detected per frame; ``truncated`` says that the raw video broke off.
    """

    frames: int
    frames_with_people: int
    people_mean: float
    fps: float
    width: int
    height: int
    duration_s: float
    truncated: bool


@dataclass
class Tools:
    """A worker's networks, and the frames that it will see again."""

    detector: Detector
    segmenter: Segmenter
    kept: dict[int, list[Image]] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One frame after following: ``persons`` with their ``ids``; ``lost`` persons moved by (dx, dy) pixels."""

    persons: Detections
    ids: list[int]
    lost: dict[int, tuple[int, int]]


Cut = tuple[NDArray[np.uint8], dict[int, NDArray[np.uint8]]]
"""Masks of one frame with their bits packed along the width: of the persons (P, H, W / 8), of lost ones by id."""


def _tools(config: MaskConfig) -> Tools:
    detector = build_detector(config)
    return Tools(detector, build_segmenter(config, detector))


def _find(tools: Tools, shard: int, images: list[Image]) -> list[Detections]:
    tools.kept[shard] = images
    return tools.detector.detect(images)


def _cut(tools: Tools, shard: int, steps: list[Step]) -> list[Cut]:
    cuts: list[Cut] = []
    tools.segmenter.begin()
    for image, step in zip(tools.kept.pop(shard), steps, strict=True):
        masks = tools.segmenter.segment(image, step.persons)
        known = tools.segmenter.recall(list(step.lost))
        cuts.append((np.packbits(masks, axis=-1), {i: np.packbits(m, axis=-1) for i, m in known.items()}))
    return cuts


class _Follower:
    """Who is who, in the order of the frames."""

    def __init__(self, config: MaskConfig) -> None:
        self._tracker = Tracker(config.min_score, config.hold)
        self._numbers = None
        if NETWORKS[config.detector].bytetrack:
            from posewatch.perception.networks.bytetrack import ByteTrack

            self._numbers = ByteTrack(config.min_score, config.hold)

    def __call__(self, found: Detections) -> Step:
        if self._numbers is not None:
            found = self._numbers.update(found)
        matched = self._tracker.update(found)
        ids = [track.id for track, _ in matched]
        persons = found.pick([i for _, i in matched])
        persons = Detections(persons.boxes, persons.scores, persons.keypoints, np.array(ids, np.int64))
        lost = {t.id: (round(float(t.velocity[0])), round(float(t.velocity[1]))) for t in self._tracker.lost()}
        return Step(persons, ids, lost)


@dataclass(frozen=True)
class MaskedFrame:
    """A frame with its persons: ``masks`` bool (P, H, W) in the order of ``persons``, ``visible`` (H, W) with held
    persons and without the grown edge, ``painted`` what is shown of it."""

    frame: Frame
    persons: Detections
    masks: Masks
    visible: NDArray[np.bool_]
    painted: Image


def mask_frames(
    src: Path,
    config: MaskConfig,
    *,
    detector: Detector | None = None,
    segmenter: Segmenter | None = None,
    workers: int = 1,
) -> Iterator[MaskedFrame]:
    """The frames of a video at ``config.fps``, masked; ``persons.ids`` number the persons. As ``mask_video``."""
    _check(config)
    if detector is not None or segmenter is not None:
        given = detector or build_detector(config)
        ready = Tools(given, segmenter or build_segmenter(config, given))
        crew: Crew[Tools] = Crew(lambda: ready)
    else:
        crew = Crew(partial(_tools, config), workers)
    follow, composer = _Follower(config), Composer(config.dilate, config.feather)
    found: deque[tuple[int, list[Frame], Future[list[Detections]]]] = deque()
    cut: deque[tuple[list[Frame], list[Step], Future[list[Cut]]]] = deque()

    def follow_next() -> None:
        number, shard, future = found.popleft()
        steps = [follow(persons) for persons in result(future)]
        cut.append((shard, steps, crew.submit(number, _cut, number, steps)))

    def finish_next() -> Iterator[MaskedFrame]:
        shard, steps, future = cut.popleft()
        cuts = result(future)
        for frame, step, (packed, recalled) in zip(shard, steps, cuts, strict=True):
            height, width = frame.image.shape[:2]
            masks = unpack(packed, width)
            known = {i: unpack(m, width) for i, m in recalled.items()}
            mask = composer.visible((height, width), step.ids, masks, step.lost, known)
            yield MaskedFrame(frame, step.persons, masks, mask, composer.paint(frame.image, mask))

    with contextlib.closing(video.ahead(video.read(src, config.fps, config.max_side))) as frames, crew:  # type: ignore[type-var]
        for number, shard in enumerate(shards(frames)):
            found.append((number, shard, crew.submit(number, _find, number, [f.image for f in shard])))
            if len(found) >= crew.depth:
                follow_next()
            if len(cut) >= crew.workers:
                yield from finish_next()
        while found:
            follow_next()
        while cut:
            yield from finish_next()


def mask_video(
    src: Path,
    out: Path,
    config: MaskConfig,
    *,
    detector: Detector | None = None,
    segmenter: Segmenter | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
) -> MaskReport:
    """Mask ``src`` into ``out`` (mp4) and write its detections to ``detections.npz`` in the same folder.

    Frames are taken at ``config.fps`` and fitted into ``config.max_side``. A video without people gives black frames
    and a report that says so. ``progress`` is called with (frames done, frames in all). The frames are shared among
    ``workers`` processes; their number changes no byte of the result. Raises VideoError for a video that cannot be
    read; nothing is left behind then.
    """
    _check(config)
    src, out = Path(src), Path(out)
    info = video.probe(src)
    size = video.fit(info.width, info.height, config.max_side)
    total = video.grid(info.duration_s, config.fps)
    seen: list[Detections] = []
    visible = 0
    with ExitStack() as stack:
        frames = mask_frames(src, config, detector=detector, segmenter=segmenter, workers=workers)
        stack.enter_context(contextlib.closing(frames))  # type: ignore[type-var]
        writer = stack.enter_context(video.BackgroundWriter(video.Writer(out, config.fps, size)))
        crops = stack.enter_context(CropWriter(out.parent / "crops", config.fps)) if config.crops else None
        for masked in frames:
            seen.append(masked.persons)
            visible += bool(masked.visible.any())
            writer.write(masked.painted)
            if crops is not None:
                crops.write(masked.frame.image, masked.persons, masked.masks)
            if progress:
                progress(len(seen), total)
    write_detections(out.with_name(DETECTIONS), seen)
    people = sum(len(d) for d in seen) / len(seen)
    duration = len(seen) / config.fps
    return MaskReport(len(seen), visible, round(people, 4), config.fps, *size, round(duration, 6), info.truncated)


def unpack(packed: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Masks (..., H, width) from their packed bits (..., H, width / 8)."""
    return np.unpackbits(packed, axis=-1, count=width).view(bool)


def _check(config: MaskConfig) -> None:
    if config.fps <= 0 or config.max_side < 32 or config.hold < 0 or config.dilate < 0 or config.feather < 0:
        raise ConfigError("masking needs fps > 0, max_side >= 32, hold >= 0, dilate >= 0 and feather >= 0")
    if config.reprompt < 1:
        raise ConfigError(f"mask.reprompt must be at least 1, not {config.reprompt}")
