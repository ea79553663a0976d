"""Probing and reading video through PyAV.

Frames are resampled by their times (``clock.py``) to a constant rate, shown upright (``orientation.py``), and scaled to
even sizes.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from posewatch.errors import VideoError
from posewatch.video.clock import Gap, Timeline
from posewatch.video.deinterlace import Deinterlacer
from posewatch.video.opening import opened, packets, picture_s, vendor
from posewatch.video.orientation import Image, Upright, shown_size
from posewatch.video.scan import scan_of
from posewatch.video.skipping import Doubt, Grid, Skipping, skipping

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["Frame", "Image", "VideoInfo", "fit", "grid", "probe", "read", "refusal", "require_pictures"]

_JITTER_S = 0.002
"""Containers round timestamps: a frame that is later by no more than this is on time."""
_LATE = 64
"""A picture that was not decoded when so many later packets were is lost."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoInfo:
    """``width`` and ``height`` in pixels as shown (upright, square pixels), ``fps`` the mean rate in frames per second.

    ``duration_s`` is the length that a player shows, to the end of the last picture; ``gaps`` are the stretches in it
    without a picture, which ``fps`` does not count. ``truncated``: not all of the file can be used; ``trouble`` says
    why and what to do. ``notes`` are lines about what was put right.
    """

    width: int
    height: int
    fps: float
    duration_s: float
    frames: int
    codec: str
    truncated: bool = False
    gaps: tuple[Gap, ...] = ()
    notes: tuple[str, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class Frame:
    """``image`` uint8 (H, W, 3) RGB, not to be changed; ``time_s`` seconds on the player's clock.

    ``index`` is the place on the grid that ``read`` was asked for; in a gap of the video places are missing.
    """

    index: int
    time_s: float
    image: Image


def probe(path: Path) -> VideoInfo:
    """Properties of a video, from all its packets and the first decoded frame.

    Raises VideoError, one line each: no such file, empty, not a video, audio only, no frame that can be decoded.
    """
    path = Path(path)
    width, height = _size(path)
    scan = scan_of(path)
    times = scan.times
    count = len(times.times)
    fps = count / times.shown_s if count > 1 else 1 / scan.step_s
    trouble = scan.trouble(path)
    return VideoInfo(
        width, height, round(fps, 6), round(times.duration_s, 6), count, scan.codec, bool(trouble),
        tuple(Gap(round(g.start_s, 3), round(g.length_s, 3)) for g in times.gaps), scan.notes(), trouble,
    )  # fmt: skip


def require_pictures(paths: Sequence[Path]) -> None:
    """Raises VideoError, which names all files that show no first picture: before hours of work on the others."""
    errors = []
    for path in paths:
        try:
            _size(path)
        except VideoError as error:
            errors.append(str(error))
    if errors:
        raise VideoError(refusal(errors, len(paths)))


def refusal(errors: Sequence[str], files: int) -> str:
    """One line of what is wrong with some of so many files."""
    count = f"{len(errors)} of {files} videos cannot be used: " if files > 1 else ""
    more = f" … and {len(errors) - 3} more" if len(errors) > 3 else ""
    return count + "; ".join(errors[:3]) + more


def _size(path: Path) -> tuple[int, int]:
    """Width and height of the first picture, as shown. Raises VideoError."""
    with opened(path) as (container, stream):
        first = next(_frames(container, stream), None)
        if first is None:
            raise VideoError(f"broken video: {path} has no frame that can be decoded (copy it again)")
        return shown_size(first, stream)


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
    *,
    skip: bool = True,
) -> Iterator[Frame]:
    """The frames of [start_s, end_s) at a constant rate (the video's own mean rate when ``fps`` is None).

    Frame i is the one shown at start_s + i / fps; in a gap there is none. One frame is in memory at a time. A video
    that breaks off ends early. ``skip`` False decodes also what is not needed, for comparison: the frames are the same.
    Raises VideoError as ``probe`` does.
    """
    path = Path(path)
    rate = probe(path).fps if fps is None else fps
    begin = max(0.0, start_s or 0.0)
    asked = Grid(begin, math.inf if end_s is None else end_s, rate, _JITTER_S)
    count = 0
    try:
        for frame in _sampled(path, asked, max_side, skip):
            yield frame
            count = frame.index + 1
        return
    except Doubt:
        _LOG.info("%s: all pictures are decoded", path.name)
    for frame in _sampled(path, asked, max_side, skip=False, seek=False):
        if frame.index >= count:
            yield frame


def _sampled(path: Path, asked: Grid, max_side: int | None, skip: bool, seek: bool = True) -> Iterator[Frame]:
    """The frames of ``read``; with ``skip``, what is not needed is not decoded. Raises Doubt where that is not safe,
    and where with ``seek`` the first picture comes too late: formats without an index have no place of keyframes."""
    scan = scan_of(path)
    times = scan.times
    begin, stop, rate = asked.begin_s, asked.end_s, asked.rate
    begun, upright = False, Upright()
    shown: VideoFrame | None = None
    image: Image | None = None
    size: tuple[int, int] | None = None
    since, end, index = 0.0, 0.0, 0

    def frame_at(at: float) -> Frame:
        nonlocal image
        if image is None:
            if shown is None:
                raise Doubt
            image = upright(shown, size or (2, 2))
        return Frame(index, at, image)

    with opened(path) as (container, stream):
        skipped = skipping(stream, scan, asked) if skip else None
        if skipped is not None:  # what is left of a damaged picture may depend on which were decoded before
            stream.codec_context.options = {"err_detect": "explode"}
        sought = seek and times.regular  # else the container's times are not those of the player
        sought = sought and _seek(container, stream, begin)
        for time, lasts, frame in _timed(container, stream, times, skipped):
            if sought and not begun and time > begin + _JITTER_S:
                raise Doubt
            until = time if time - since <= times.limit_s else since + times.step_s
            while begun and (at := begin + index / rate) < min(until - _JITTER_S, stop - 1e-9):
                yield frame_at(at)
                index += 1
            if until < time:
                index = max(index, math.ceil((time - _JITTER_S - begin) * rate))
            if begin + index / rate >= stop - 1e-9:
                return
            begun, shown, image, since = True, frame, None, time
            if frame is not None:
                size = size or fit(*shown_size(frame, stream), max_side)
            end = time + (lasts if lasts <= times.limit_s else times.step_s)
        if not begun and sought:
            raise Doubt
        if not begun:
            raise VideoError(f"broken video: {path} has no frame that can be decoded (copy it again)")
        while (at := begin + index / rate) < min(end - _JITTER_S, stop - 1e-9) or (index == 0 and begin == 0):
            yield frame_at(at)
            index += 1


def _seek(container: InputContainer, stream: VideoStream, begin: float) -> bool:
    """Go to the keyframe before ``begin``; False: still at the beginning."""
    if begin <= 0 or not stream.time_base:
        return False
    target = int(begin / stream.time_base) + (stream.start_time or 0)
    try:
        container.seek(target, stream=stream)
    except vendor().error.FFmpegError:
        container.seek(0)  # no index: decode from the beginning
        return False
    return True


def _timed(
    container: InputContainer, stream: VideoStream, times: Timeline, skipped: Skipping | None
) -> Iterator[tuple[float, float, VideoFrame | None]]:
    """(seconds, duration in seconds, frame) in the order of showing, each later than the one before.

    The frame is None where the picture was left out of decoding.
    """
    tick = float(stream.time_base or 0)
    step = picture_s(container, stream)
    order = _Order()
    count = 0

    def stamp(packet: Packet) -> bool:
        """Note when the packet's picture is shown; False after the last one that can be used."""
        nonlocal count
        stream.codec_context.skip_frame = "DEFAULT"
        if packet.size == 0 or packet.is_discard:
            return True
        if times.regular:
            if packet.pts is not None:
                time = packet.pts * tick - times.origin_s
                if skipped is None:
                    order.expect(time)
                elif skipped.send(packet, time):
                    stream.codec_context.skip_frame = "NONREF"
            return True
        if count >= len(times.times):
            return False
        order.expect(times.times[count])
        packet.pts = packet.dts = count  # comes out with the frame, and says which time is its own
        count += 1
        return True

    def lasts_s(frame: VideoFrame | None) -> float:
        return frame.duration * float(frame.time_base or tick) if frame is not None and frame.duration else step

    if skipped is not None:
        for frame in _decoded(container, stream, stamp, strict=True):
            for time, picture in skipped.take(frame):
                yield time, lasts_s(picture), picture
        for time, picture in skipped.finish():
            yield time, lasts_s(picture), picture
        return
    for frame in _frames(container, stream, stamp):
        unit = float(frame.time_base) if frame.time_base else tick
        own: float | None = None
        if frame.pts is not None and times.regular:
            own = frame.pts * unit - times.origin_s
        elif frame.pts is not None and not times.by_order:
            own = times.times[min(len(times.times) - 1, max(0, round(frame.pts * unit / tick)))]
        yield order.take(own), lasts_s(frame), frame


class _Order:
    """Gives every decoded picture a time later than the one before: its own, or the next of those still to come."""

    def __init__(self) -> None:
        self._expected: list[tuple[float, int]] = []
        self._count = 0
        self._last = -math.inf

    def expect(self, time: float) -> None:
        heapq.heappush(self._expected, (time, self._count))
        self._count += 1
        self._drop()

    def take(self, own: float | None) -> float:
        if own is None or own <= self._last:
            self._drop()
            own = self._expected[0][0] if self._expected else max(0.0, self._last + 1e-3)
        self._last = own
        return own

    def _drop(self) -> None:
        waiting = self._expected
        while waiting and (waiting[0][0] <= self._last or waiting[0][1] < self._count - _LATE):
            heapq.heappop(waiting)


def _frames(
    container: InputContainer, stream: VideoStream, stamp: Callable[[Packet], bool] = lambda packet: True
) -> Iterator[VideoFrame]:
    """The decoded frames, deinterlaced where necessary, until ``stamp`` refuses a packet."""
    deinterlaced = Deinterlacer(stream)
    for frame in _decoded(container, stream, stamp):
        yield from deinterlaced(frame)
    yield from deinterlaced.finish()


def _decoded(
    container: InputContainer, stream: VideoStream, stamp: Callable[[Packet], bool], *, strict: bool = False
) -> Iterator[VideoFrame]:
    """The frames as decoded, until ``stamp`` refuses a packet. Broken ones are left out; ``strict``: raise Doubt."""
    broken = 0
    for packet in packets(container, stream):
        if not stamp(packet):
            yield from stream.codec_context.decode(None)
            break
        try:
            frames = packet.decode()
        except vendor().error.FFmpegError:
            if strict:
                raise Doubt from None
            broken += 1
            continue
        yield from frames
    if broken:
        _LOG.warning("%s: %d pictures cannot be decoded", Path(container.name).name, broken)
