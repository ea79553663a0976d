"""One raw video → the same video with everything but its people black, and the detections beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posewatch import video
from posewatch.config import MaskConfig
from posewatch.errors import ConfigError, InputError
from posewatch.masking import build_detector, build_segmenter
from posewatch.masking.detector import Detector, Image
from posewatch.masking.segmenter import Masks, Segmenter
from posewatch.masking.tracks import Track, Tracker
from posewatch.records import Detections

DETECTIONS = "detections.npz"


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


class _Masker:
    """Keeps the people of successive frames visible; holds one mask per tracked person, so memory is constant."""

    def __init__(self, config: MaskConfig, detector: Detector, segmenter: Segmenter) -> None:
        self._detector, self._segmenter = detector, segmenter
        self._tracker = Tracker(config.min_score, config.hold)
        self._masks: dict[int, NDArray[np.bool_]] = {}
        self._grow = _disc(config.dilate)

    def __call__(self, image: Image) -> tuple[NDArray[np.bool_], Detections]:
        """The visible pixels (H, W) of the next frame, and its persons."""
        found = self._detector.detect([image])[0]
        matched = self._tracker.update(found)
        persons = pick(found, [i for _, i in matched])
        masks: Masks = self._segmenter.segment(image, persons)
        self._masks = {t.id: self._masks[t.id] for t in self._tracker.lost() if t.id in self._masks}
        visible = np.zeros(image.shape[:2], bool)
        for track in self._tracker.lost():
            if track.id in self._masks:
                # the held mask goes on the way that the person went
                self._masks[track.id] = _shift(self._masks[track.id], track)
                visible |= self._masks[track.id]
        for (track, _), mask in zip(matched, masks, strict=True):
            self._masks[track.id] = mask
            visible |= mask
        return self._dilate(visible), persons

    def _dilate(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        import cv2

        if self._grow is None or not mask.any():
            return mask
        return cv2.dilate(mask.astype(np.uint8), self._grow) > 0


def mask_video(
    src: Path,
    out: Path,
    config: MaskConfig,
    *,
    detector: Detector | None = None,
    segmenter: Segmenter | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MaskReport:
    """Mask ``src`` into ``out`` (mp4) and write its detections to ``detections.npz`` in the same folder.

    Frames are taken at ``config.fps`` and fitted into ``config.max_side``. A video without people gives black frames
    and a report that says so. ``progress`` is called with (frames done, frames in all). Raises VideoError for a video
    that cannot be read; nothing is left behind then.
    """
    if config.fps <= 0 or config.max_side < 32 or config.hold < 0 or config.dilate < 0:
        raise ConfigError("masking needs fps > 0, max_side >= 32, hold >= 0 and dilate >= 0")
    info = video.probe(Path(src))
    masker = _Masker(
        config, detector or build_detector(config.detector), segmenter or build_segmenter(config.segmenter)
    )
    size = video.fit(info.width, info.height, config.max_side)
    total = video.grid(info.duration_s, config.fps)
    seen: list[Detections] = []
    visible = 0
    with video.Writer(Path(out), config.fps, size) as writer:
        for frame in video.read(Path(src), config.fps, config.max_side):
            mask, persons = masker(frame.image)
            seen.append(persons)
            visible += bool(mask.any())
            writer.write(frame.image * mask[..., None])
            if progress:
                progress(len(seen), total)
    write_detections(Path(out).with_name(DETECTIONS), seen)
    people = sum(len(d) for d in seen) / len(seen)
    duration = len(seen) / config.fps
    return MaskReport(len(seen), visible, round(people, 4), config.fps, *size, round(duration, 6), info.truncated)


def write_detections(path: Path, frames: Sequence[Detections]) -> None:
    """Persons of each frame as npz: ``frames`` (), ``frame`` (N,), ``boxes`` (N, 4), ``scores`` (N,), ``keypoints``."""
    filled = [d for d in frames if len(d)]
    joints = next((d.keypoints.shape[1] for d in filled if d.keypoints is not None), 0)
    arrays: dict[str, NDArray] = {
        "frames": np.array(len(frames), np.int32),
        "frame": np.repeat(np.arange(len(frames), dtype=np.int32), [len(d) for d in frames]),
        "boxes": np.concatenate([d.boxes for d in filled]) if filled else np.zeros((0, 4), np.float32),
        "scores": np.concatenate([d.scores for d in filled]) if filled else np.zeros(0, np.float32),
    }
    if joints:
        arrays["keypoints"] = np.concatenate([d.keypoints for d in filled if d.keypoints is not None])
    temp = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temp.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)
        os.replace(temp, path)
    finally:
        temp.unlink(missing_ok=True)


def read_detections(path: Path) -> list[Detections]:
    """What ``write_detections`` wrote: one entry per frame. Raises InputError for another kind of file."""
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        return list(_frames(arrays))
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"not a detections file: {path} ({error}; run mask again)") from None


def _frames(arrays: dict[str, NDArray]) -> Iterator[Detections]:
    ends = np.searchsorted(arrays["frame"], np.arange(int(arrays["frames"]) + 1))
    keypoints = arrays.get("keypoints")
    for a, b in pairwise(ends):
        points = None if keypoints is None else keypoints[a:b]
        yield Detections(arrays["boxes"][a:b], arrays["scores"][a:b], points)


def pick(found: Detections, indices: Sequence[int]) -> Detections:
    chosen = list(indices)
    keypoints = None if found.keypoints is None else found.keypoints[chosen]
    return Detections(found.boxes[chosen], found.scores[chosen], keypoints)


def _disc(radius: int) -> NDArray[np.uint8] | None:
    if radius < 1:
        return None
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def _shift(mask: NDArray[np.bool_], track: Track) -> NDArray[np.bool_]:
    dx, dy = (int(v) for v in np.round(track.velocity))
    height, width = mask.shape
    if abs(dx) >= width or abs(dy) >= height:
        return np.zeros_like(mask)
    moved = np.zeros_like(mask)
    moved[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)] = mask[
        max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)
    ]
    return moved
