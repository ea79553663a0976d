"""Probing and reading video through PyAV.

Frames are resampled by their timestamps to a constant rate, turned upright by the rotation in the file's metadata, and
scaled to even sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import ConfigError, PosewatchError, VideoError
from posewatch.video.deinterlace import Deinterlacer

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Image = NDArray[np.uint8]
"""uint8 (H, W, 3), RGB."""

_JITTER_S = 0.002
"""Containers round timestamps: a frame that is later by no more than this is on time."""


@dataclass(frozen=True)
class VideoInfo:
    """``width`` and ``height`` in pixels as shown (upright, square pixels), ``fps`` the mean rate in frames per second.

    ``duration_s`` is seconds from the first frame to the end of the last one; ``truncated``: the file breaks off before
    its declared end.
    """

    width: int
    height: int
    fps: float
    duration_s: float
    frames: int
    codec: str
    truncated: bool = False


@dataclass(frozen=True)
class Frame:
    """``image`` uint8 (H, W, 3) RGB, not to be changed; ``time_s`` seconds since the video's first frame."""

    index: int
    time_s: float
    image: Image


def vendor() -> Any:
    """The av module, or a one-line error that names the extra."""
    try:
        import av
    except ImportError:
        raise PosewatchError("video needs PyAV and OpenCV: pip install 'posewatch[video]'") from None
    av.logging.set_level(None)  # broken files are reported by us, in one line
    return av


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    av = vendor()
    if not path.is_file():
        raise VideoError(f"no such video: {path} (give a file, a folder or an s3:// URI)")
    if path.stat().st_size == 0:
        raise VideoError(f"empty file: {path} (0 bytes; copy it again)")
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except (av.error.FFmpegError, OSError) as error:
        if _looks_like_mp4(path):
            raise VideoError(f"broken video: {path} breaks off before its index (copy it again)") from None
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"not a video: {path} ({reason}; use a format that FFmpeg reads, such as mp4)") from None
    with container:
        # cover art is a video stream of one image
        streams = [s for s in container.streams.video if "ATTACHED_PIC" not in str(s.disposition)]
        if not streams:
            kind = "audio only" if container.streams.audio else "no video stream"
            raise VideoError(f"no picture in {path}: {kind} (give a file with a video stream)")
        stream = streams[0]
        if stream.codec_context is None:
            raise VideoError(f"cannot decode {path}: unknown codec (re-encode it as H.264)")
        stream.thread_count = 1  # parallel work is one process per video
        yield container, stream


def _looks_like_mp4(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(12)[4:8] == b"ftyp"


_NO_TIMESTAMPS = 0x80
"""FFmpeg's flag for formats without timestamps, such as raw H.264."""


def _frame_s(container: InputContainer, stream: VideoStream) -> float:
    """Seconds of one frame at the declared rate."""
    bare = bool(int(container.format.flags) & _NO_TIMESTAMPS)  # then FFmpeg assumes the average rate
    rate = stream.guessed_rate if bare and stream.guessed_rate else stream.average_rate or stream.guessed_rate
    return float(1 / rate) if rate else 1 / 25


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[tuple[float, float, VideoFrame]]:
    """(seconds, duration in seconds, frame) in presentation order. Broken packets are skipped."""
    step = _frame_s(container, stream)
    tick = float(stream.time_base or 0)
    origin = (stream.start_time or 0) * tick
    last = -math.inf
    for frame in _deinterlaced(container, stream):
        unit = float(frame.time_base) if frame.time_base else tick
        time = last + step if frame.pts is None else frame.pts * unit - origin
        if frame.pts is None and last == -math.inf:
            time = 0.0
        if time <= last:
            continue
        lasts = frame.duration * unit if frame.duration else step
        last = time
        yield time, lasts, frame


def _deinterlaced(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The decoded frames, deinterlaced where necessary."""
    av = vendor()
    deinterlaced = Deinterlacer(stream)
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError):
            break
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        for frame in frames:
            yield from deinterlaced(frame)
    yield from deinterlaced.finish()


def _rotation(frame: VideoFrame) -> int:
    """Quarter turns counter-clockwise that turn the frame upright."""
    return round(frame.rotation / 90) % 4


def shown_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height as shown: square pixels, upright."""
    ratio = stream.sample_aspect_ratio or Fraction(1)
    width, height = frame.width, frame.height
    if 0 < ratio != 1:
        width = round(width * float(ratio))
    return (height, width) if _rotation(frame) % 2 else (width, height)


def probe(path: Path) -> VideoInfo:
    """Properties of a video, from all its packets and the first decoded frame.

    Raises VideoError, one line each: no such file, empty, not a video, audio only, no frame that can be decoded.
    """
    av = vendor()
    path = Path(path)
    with _opened(path) as (container, stream):
        first = next(_decoded(container, stream), None)
        if first is None:
            raise VideoError(f"broken video: {path} has no frame that can be decoded (copy it again)")
        width, height = shown_size(first[2], stream)
    with _opened(path) as (container, stream):
        base = float(stream.time_base or 0)
        step = _frame_s(container, stream)
        count, broken = 0, False
        start, end = math.inf, -math.inf
        try:
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                if packet.is_corrupt:
                    broken = True
                    continue
                count += 1
                stamp = packet.pts if packet.pts is not None else packet.dts
                at = stamp * base if stamp is not None else (count - 1) * step
                start = min(start, at)
                end = max(end, at + (packet.duration * base if packet.duration else step))
        except av.error.FFmpegError:
            broken = True
        duration = max(end - start, step)
        missing = max(0, stream.frames - count)
        declared = _declared_s(container, stream)
        broken = broken or missing > max(1, 0.02 * stream.frames) or declared - duration > max(1.0, 0.05 * declared)
        fps = count / duration if count > 1 else 1 / step
        return VideoInfo(width, height, round(fps, 6), round(duration, 6), count, stream.codec_context.name, broken)


def _declared_s(container: InputContainer, stream: VideoStream) -> float:
    """Seconds of video by the file's header; 0 when it has no duration of the video stream."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration and not container.streams.audio:  # else it may be the duration of the sound
        return container.duration / 1e6
    return 0.0


def grid(duration_s: float, fps: float) -> int:
    """Number of frames that ``read`` yields for a duration at a constant rate."""
    return max(1, math.ceil((duration_s - _JITTER_S) * fps))


def fit(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """Even (width, height) with the longer side at most ``max_side``; never enlarged."""
    scale = min(1.0, max_side / max(width, height)) if max_side else 1.0
    return max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)


def read(
    path: Path,
    fps: float | None = None,
    max_side: int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
) -> Iterator[Frame]:
    """The frames of [start_s, end_s) at a constant rate (the video's own mean rate when ``fps`` is None).

    Frame i is the one shown at start_s + i / fps. One frame is in memory at a time. A video that breaks off ends
    early. Raises VideoError as ``probe`` does.
    """
    path = Path(path)
    rate = probe(path).fps if fps is None else fps
    if rate <= 0:
        raise ConfigError(f"fps must be positive, not {rate}")
    begin = max(0.0, start_s or 0.0)
    stop = math.inf if end_s is None else end_s
    shown: VideoFrame | None = None
    image: Image | None = None
    size: tuple[int, int] | None = None
    end, index = 0.0, 0
    with _opened(path) as (container, stream):
        _seek(container, stream, begin)
        for time, lasts, frame in _decoded(container, stream):
            while shown is not None and (at := begin + index / rate) < min(time - _JITTER_S, stop - 1e-9):
                if image is None:
                    image = upright(shown, size or (2, 2))
                yield Frame(index, at, image)
                index += 1
            if begin + index / rate >= stop - 1e-9:
                return
            shown, image = frame, None
            size = size or fit(*shown_size(frame, stream), max_side)
            end = time + lasts
        if shown is None:
            raise VideoError(f"broken video: {path} has no frame that can be decoded (copy it again)")
        while (at := begin + index / rate) < min(end - _JITTER_S, stop - 1e-9) or (index == 0 and begin == 0):
            if image is None:
                image = upright(shown, size or (2, 2))
            yield Frame(index, at, image)
            index += 1


def _seek(container: InputContainer, stream: VideoStream, begin: float) -> None:
    if begin <= 0 or not stream.time_base:
        return
    target = int(begin / stream.time_base) + (stream.start_time or 0)
    try:
        container.seek(target, stream=stream)
    except vendor().error.FFmpegError:
        container.seek(0)  # no index: decode from the beginning


def upright(frame: VideoFrame, size: tuple[int, int]) -> Image:
    """The frame turned upright, in the video's (width, height): a camera may change its resolution while it records."""
    turns = _rotation(frame)
    width, height = size[::-1] if turns % 2 else size
    small = width < frame.width
    rgb = frame.reformat(width, height, "rgb24", interpolation="AREA" if small else "BILINEAR", threads=1)
    image: Image = rgb.to_ndarray().astype(np.uint8, copy=False)
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
