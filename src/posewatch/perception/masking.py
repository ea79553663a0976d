"""Masking: one raw video → the same video with everything but its people black, and the detections beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch import video
from posewatch.config import MaskConfig
from posewatch.perception.compose import Composer
from posewatch.perception.crops import CropWriter
from posewatch.perception.networks import NETWORKS, build_detector, build_segmenter
from posewatch.perception.persons import PersonWriter, numbered
from posewatch.perception.ports import Detector, Image, Mask, Masks, Segmenter
from posewatch.perception.repeats import each_once, same
from posewatch.perception.storage import DETECTIONS, write_detections
from posewatch.perception.tracking.both_ways import BothWays
from posewatch.perception.tracking.tracker import Tracker
from posewatch.perception.workers import WorkerPool, shards
from posewatch.records import Detections
from posewatch.units import PERSON
from posewatch.video import Frame


@dataclass(frozen=True)
class MaskReport:
    """A summary of a masked video: ``frames`` at ``fps`` frames per second, pixels, seconds.

    ``frames_with_people`` counts frames in which somebody is visible, held masks included; ``people_mean`` is the mean
    number of persons detected per frame; ``truncated``: the raw video breaks off. ``gaps``: (frame, seconds) where the
    raw video has so many seconds without a picture before that frame; the masked video goes on without them.
    """

    frames: int
    frames_with_people: int
    people_mean: float
    fps: float
    width: int
    height: int
    duration_s: float
    truncated: bool
    gaps: tuple[tuple[int, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Without ``gaps`` where there are none, as before there were gaps: the same video keeps its digest."""
        return {k: v for k, v in asdict(self).items() if k != "gaps" or v}


@dataclass
class Networks:
    """A worker's networks, and the images of the shards between detection and segmentation: a video is decoded once."""

    detector: Detector
    segmenter: Segmenter
    images: deque[list[Image]] = field(default_factory=deque)


@dataclass(frozen=True)
class Tracked:
    """One frame after tracking: ``persons`` with ids; ``lost`` maps track ids to their movement (dx, dy) in pixels."""

    persons: Detections
    lost: dict[int, tuple[int, int]]


Packed = tuple[NDArray[np.uint8], dict[int, NDArray[np.uint8]]]
"""Masks of one frame, bits packed along the width: of the detected persons (P, H, W / 8), of lost ones by track id."""


def _networks(config: MaskConfig) -> Networks:
    detector = build_detector(config)
    return Networks(detector, build_segmenter(config, detector))


def _detect(networks: Networks, images: list[Image]) -> list[Detections]:
    networks.images.append(images)
    return each_once(networks.detector.detect, images)


def _segment(networks: Networks, shard: list[Tracked]) -> list[Packed]:
    """The masks of the shard that was detected first among those without masks."""
    segmenter = networks.segmenter
    segmenter.begin()
    remembers = type(segmenter).recall is not Segmenter.recall
    packed: list[Packed] = []
    before: tuple[Image, Detections] | None = None
    for image, tracked in zip(networks.images.popleft(), shard, strict=True):
        persons = tracked.persons
        if before is not None and not remembers and same(image, before[0]) and _at_one_place(persons, before[1]):
            packed.append(packed[-1])
            continue
        masks = segmenter.segment(image, persons)
        recalled = segmenter.recall(list(tracked.lost))
        packed.append((np.packbits(masks, axis=-1), {i: np.packbits(m, axis=-1) for i, m in recalled.items()}))
        before = image, persons
    return packed


def _at_one_place(a: Detections, b: Detections) -> bool:
    return np.array_equal(a.boxes, b.boxes) and (
        a.keypoints is b.keypoints is None
        or (a.keypoints is not None and b.keypoints is not None and np.array_equal(a.keypoints, b.keypoints))
    )


class _Tracking:
    """Finds the persons among the detections and assigns track ids, shard by shard in the order of the frames."""

    def __init__(self, config: MaskConfig) -> None:
        self._bytetrack, self._both_ways = None, None
        if NETWORKS[config.detector].bytetrack:
            from posewatch.perception.networks.bytetrack import ByteTrack

            self._bytetrack = ByteTrack(config.min_score, config.hold)
            self._tracker = Tracker(config.min_score, config.hold)
        else:
            self._both_ways = BothWays(config.min_score, config.hold)
            self._tracker = Tracker(0.0, config.hold)  # only persons reach it

    def __call__(self, shard: Sequence[Detections], ahead: Sequence[Detections]) -> list[Tracked]:
        """The persons of a shard; ``ahead`` is the next one."""
        if self._bytetrack is not None:
            return [self._identified(self._bytetrack.update(found)) for found in shard]
        assert self._both_ways is not None
        return [self._identified(persons) for persons in self._both_ways.persons(shard, ahead)]

    def _identified(self, found: Detections) -> Tracked:
        matched = self._tracker.update(found)
        persons = found.pick([i for _, i in matched])
        ids = np.array([track.id for track, _ in matched], np.int64)
        persons = Detections(persons.boxes, persons.scores, persons.keypoints, ids)
        lost = {t.id: (round(float(t.velocity[0])), round(float(t.velocity[1]))) for t in self._tracker.lost()}
        return Tracked(persons, lost)


@dataclass(frozen=True)
class MaskedFrame:
    """A frame with its persons: ``masks`` bool (P, H, W) in the order of ``persons``, ``held`` those of lost ones by
    track id, ``visible`` (H, W) all of them without the grown edge, ``painted`` the masked image."""

    frame: Frame
    persons: Detections
    masks: Masks
    held: dict[int, Mask]
    visible: Mask
    painted: Image


def mask_frames(
    src: Path,
    config: MaskConfig,
    *,
    detector: Detector | None = None,
    segmenter: Segmenter | None = None,
    workers: int = 1,
) -> Iterator[MaskedFrame]:
    """The frames of a video at ``config.fps``, masked; ``persons.ids`` are track ids. See ``mask_video``."""
    pool = WorkerPool(partial(_networks, config), workers)
    if detector is not None or segmenter is not None:
        chosen = detector or build_detector(config)
        networks = Networks(chosen, segmenter or build_segmenter(config, chosen))
        pool = WorkerPool(lambda: networks)
    tracking, composer = _Tracking(config), Composer(config.dilate, config.feather)
    with closing(video.ahead(video.read(src, config.fps, config.max_side))) as frames, pool:  # type: ignore[type-var]
        to_detect, to_track = tee(shards(frames))
        detections = pool.map(_detect, ([frame.image for frame in shard] for shard in to_detect))
        detected = zip(to_track, detections, strict=True)
        tracked = ((shard, tracking(found, ahead)) for (shard, found), ahead in _with_next(detected))
        to_segment, to_paint = tee(tracked)
        masks = pool.map(_segment, (persons for _, persons in to_segment), ahead=1)
        for (shard, persons), packed in zip(to_paint, masks, strict=True):
            for frame, one, (bits, recalled) in zip(shard, persons, packed, strict=True):
                yield _masked(frame, one, bits, recalled, composer)


def _with_next(
    shards: Iterable[tuple[list[Frame], list[Detections]]],
) -> Iterator[tuple[tuple[list[Frame], list[Detections]], list[Detections]]]:
    """Each shard with the detections of the next one, none for the last."""
    source = iter(shards)
    for current in source:
        for following in source:
            yield current, following[1]
            current = following
        yield current, []


def _masked(
    frame: Frame, tracked: Tracked, bits: NDArray[np.uint8], recalled: dict[int, NDArray[np.uint8]], composer: Composer
) -> MaskedFrame:
    height, width = frame.image.shape[:2]
    masks = _unpack(bits, width)
    assert tracked.persons.ids is not None
    known = {i: _unpack(m, width) for i, m in recalled.items()}
    visible = composer.visible((height, width), tracked.persons.ids.tolist(), masks, tracked.lost, known)
    held = {i: mask for i, mask in composer.masks.items() if i in tracked.lost}
    return MaskedFrame(frame, tracked.persons, masks, held, visible, composer.paint(frame.image, visible))


def _unpack(packed: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Masks (..., H, width) from their packed bits (..., H, width / 8)."""
    return np.unpackbits(packed, axis=-1, count=width).view(bool)


def _person_writer(folder: Path, config: MaskConfig, size: tuple[int, int]) -> PersonWriter:
    paint = Composer(config.dilate, config.feather).paint
    return PersonWriter(
        folder, config.fps, size, view=config.view, min_presence_s=config.min_presence_s, hold=config.hold, paint=paint
    )


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
    """Mask ``src`` into ``out`` (mp4), and write the detections to ``detections.npz`` in the same folder; with
    ``mask.unit`` person also a video of each person, and ``persons.json`` (``persons.PersonWriter``).

    Frames are taken at ``config.fps`` and fitted into ``config.max_side``. A video without people becomes black frames.
    ``progress`` is called with (frames done, frames in all). ``workers`` processes share the frames; their number does
    not change a byte of the result. Raises VideoError for a video that cannot be read; no file is left behind then.
    """
    src, out = Path(src), Path(out)
    info = video.probe(src)
    size = video.fit(info.width, info.height, config.max_side)
    total = video.grid(info.duration_s - sum(gap.length_s for gap in info.gaps), config.fps)
    detections: list[Detections] = []
    places: list[int] = []
    visible = 0
    with ExitStack() as stack:
        frames = mask_frames(src, config, detector=detector, segmenter=segmenter, workers=workers)
        stack.enter_context(closing(frames))  # type: ignore[type-var]
        writer = stack.enter_context(video.BackgroundWriter(video.Writer(out, config.fps, size)))
        crops = stack.enter_context(CropWriter(out.parent / "crops", config.fps)) if config.crops else None
        alone = stack.enter_context(_person_writer(out.parent, config, size)) if config.unit == PERSON else None
        for masked in frames:
            detections.append(masked.persons)
            places.append(masked.frame.index)
            visible += bool(masked.visible.any())
            writer.write(masked.painted)
            if crops is not None:
                crops.write(masked.frame.image, masked.persons, masked.masks)
            if alone is not None:
                assert masked.persons.ids is not None
                masks = dict(zip(masked.persons.ids.tolist(), masked.masks, strict=True))
                alone.write(masked.frame.image, masked.frame.index, masked.persons, masks, masked.held)
            if progress:
                progress(len(detections), total)
    if alone is not None:
        detections = [numbered(found, alone.numbers()) for found in detections]
    write_detections(out.with_name(DETECTIONS), detections, ids=alone is not None)
    people = sum(len(d) for d in detections) / len(detections)
    duration = len(detections) / config.fps
    gaps, done, end = [], 0, 0
    for place, count in video.stretches(places):
        if place > end:
            gaps.append((done, round((place - end) / config.fps, 6)))
        done, end = done + count, place + count
    return MaskReport(
        len(detections), visible, round(people, 4), config.fps, *size, round(duration, 6), info.truncated, tuple(gaps)
    )
