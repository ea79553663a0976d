"""What a video file holds: one pass over its packets, without decoding."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from posewatch.video.clock import Stamp, Timeline, timeline
from posewatch.video.opening import (
    counts_only,
    ends_early,
    opened,
    packets,
    picture_s,
    recordings,
    vendor,
    video_streams,
    without_clock,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_LEAD_S = 0.5
"""The picture may begin later than the sound by so much without a shift of its times."""
_TRIED = 64
"""Pictures after a jump of the clock that tell whether the codec is still the same."""


@dataclass(frozen=True)
class Scan:
    """What all packets of a file say.

    ``times`` of its pictures, ``step_s`` the declared time between two; ``damaged`` pictures, and those that are
    ``unstamped``. ``breaks_off``: something is missing at the end; from ``codec_ends_s`` on another codec is used.
    """

    times: Timeline
    step_s: float
    codec: str
    breaks_off: bool
    damaged: int
    unstamped: int
    codec_ends_s: float | None = None

    def trouble(self, path: Path) -> str:
        """Why not all of the file can be used, and what to do; empty: it can."""
        length = f"{self.times.duration_s:.1f} s"
        if (count := recordings(path)) > 1:
            return (
                f"holds {count} recordings one after the other, of which players show the first, {length} "
                "(split it, or pass --allow-truncated to use the first)"
            )
        if self.codec_ends_s is not None:
            return (
                f"changes to another codec or stream after {self.codec_ends_s:.1f} s "
                "(split it there, or pass --allow-truncated to use the first part)"
            )
        if self.breaks_off:
            return f"breaks off after {length} (copy it again, or pass --allow-truncated to use what is there)"
        return ""

    def notes(self) -> tuple[str, ...]:
        """What was put right, a line each."""
        times = self.times
        notes = []
        for jump in times.jumps[:3]:
            way = "back" if jump.by_s < 0 else "ahead"
            notes.append(
                f"its clock is set {way} by {abs(jump.by_s):.1f} s at {jump.at_s:.1f} s: the pictures follow on"
            )
        if len(times.jumps) > 3:
            notes.append(f"its clock is set {len(times.jumps) - 3} more times")
        notes += [f"no picture for {gap.length_s:.1f} s from {gap.start_s:.1f} s on" for gap in times.gaps[:3]]
        if len(times.gaps) > 3:
            notes.append(f"{len(times.gaps) - 3} more gaps without a picture")
        if self.unstamped == len(times.times):
            notes.append(f"it holds no times: {1 / self.step_s:.6g} pictures a second are assumed")
        elif times.moved or self.unstamped:
            notes.append(f"pictures without a time of their own, spread evenly: {max(times.moved, self.unstamped)}")
        if self.damaged:
            notes.append(f"damaged pictures: {self.damaged}")
        return tuple(notes)


def scan_of(path: Path) -> Scan:
    """The scan of a video file, remembered while the file stays the same. Raises VideoError."""
    about = path.stat() if path.is_file() else None
    return _scanned(path, about.st_size if about else 0, about.st_mtime_ns if about else 0)


@lru_cache(maxsize=16)
def _scanned(path: Path, size: int, changed: int) -> Scan:
    """``size`` and ``changed`` tell a file from an earlier one of the same name."""
    av = vendor()
    stamps: list[Stamp] = []
    count = unstamped = damaged = 0
    broken = last_damaged = grown = False
    with opened(path) as (container, stream):
        tick, step = float(stream.time_base or 0), picture_s(container, stream)
        beside = _Beside({s.index for s in video_streams(container)})
        clockless = without_clock(container)
        try:
            for packet in container.demux():
                if packet.size == 0:
                    continue
                if packet.stream_index != stream.index:
                    beside.take(packet, count)
                    continue
                count += 1
                if packet.is_discard:  # hidden by an edit list
                    continue
                last_damaged = bool(packet.is_corrupt)
                damaged += last_damaged
                pts, dts = (None if v is None or clockless else v * tick for v in (packet.pts, packet.dts))
                unstamped += pts is None and dts is None
                stamps.append(Stamp(pts, dts, packet.duration * tick if packet.duration else 0.0))
        except av.error.FFmpegError:
            broken = True
        except IndexError:  # PyAV's, at the end of a file in which streams begin that it does not know
            grown = True
        if last_damaged and len(stamps) > 1:
            stamps.pop()  # the file was cut within it
        times = _timeline(container, stream, stamps, step)
        missing = max(0, stream.frames - count)
        declared, of_picture = _declared_s(container, stream)
        lacks_s = declared - max(times.duration_s, 0.0 if of_picture else beside.span_s(stamps))
        # FFmpeg shortens what an AVI declares to the share of it that is there
        short = not declared or lacks_s > max(1.5 * step, 0.02 * declared) or ends_early(path)
        broken = broken or last_damaged or (short and missing > max(1, 0.02 * stream.frames))
        broken = broken or lacks_s > max(1.0, 0.05 * declared)
        follows = beside.follows(count) or (grown and _count_video_streams(path) > len(video_streams(container)))
        ends_s = times.duration_s if follows else None
        if ends_s is None and times.jumps and (usable := _usable(path, times)) < len(stamps):
            times = replace(_timeline(container, stream, stamps[:usable], step), regular=False)  # seeking finds both
            ends_s = times.duration_s
        damaged = 0 if broken else damaged
        return Scan(times, step, stream.codec_context.name, broken, damaged, unstamped, ends_s)


def _timeline(container: InputContainer, stream: VideoStream, stamps: list[Stamp], step: float) -> Timeline:
    tick = float(stream.time_base or 0)
    stamped = [s for s in stamps if s.pts is not None]
    # AVI has the order of decoding only; elsewhere a codec that reorders cannot have both times equal throughout
    reorders = bool(stream.codec_context.has_b_frames)
    by_order = (
        container.format.name == "avi"
        or not stamped
        or (reorders and len(stamped) > 2 and all(s.pts == s.dts for s in stamped))
    )
    begins_s = None if stream.start_time is None else stream.start_time * tick
    first = min((s.pts for s in stamped if s.pts is not None), default=0.0)
    sounds = [float(s.start_time * (s.time_base or 0)) for s in container.streams.audio if s.start_time is not None]
    lead = first - min(sounds, default=first)
    return timeline(
        stamps, step, counting=counts_only(container), by_order=by_order, begins_s=begins_s,
        lead_s=lead if lead > _LEAD_S else 0.0,
    )  # fmt: skip


def _usable(path: Path, times: Timeline) -> int:
    """How many of a file's pictures come before its codec changes: after a jump of the clock none can be decoded."""
    begins = {jump.picture for jump in times.jumps}
    count, failed, after = 0, 0, _TRIED
    with opened(path) as (container, stream):
        for packet in packets(container, stream):
            if packet.size == 0 or packet.is_discard:
                continue
            after = 0 if count in begins else after + 1
            stream.codec_context.skip_frame = "DEFAULT" if after < _TRIED else "NONKEY"
            failed = 0 if after == 0 else failed
            try:
                packet.decode()
            except vendor().error.FFmpegError:
                failed += after < _TRIED
            count += 1
            if failed > 1 and failed == after + 1 and (failed == _TRIED or count == len(times.times)):
                return count - failed
    return len(times.times)


def _declared_s(container: InputContainer, stream: VideoStream) -> tuple[float, bool]:
    """Seconds by the file's header (0: it says nothing), and whether they are the picture's or the longest stream's."""
    matroska = "matroska" in container.format.name
    # there is none: FFmpeg's comes from the last picture's time, or from the file's size
    if counts_only(container) or without_clock(container) or container.format.name == "asf":
        return 0.0, False
    if matroska and all(other.duration for other in container.streams):  # in truth it knows one of the file only
        return 0.0, False
    if stream.duration and stream.time_base and not matroska:
        return float(stream.duration * stream.time_base), True
    if container.duration:
        # FFmpeg's Matroska says when the file ends; a recorder's segment need not begin at 0
        begins = container.start_time or 0 if matroska else 0
        return max(0.0, (container.duration - max(0, begins)) / 1e6), False
    return 0.0, False


class _Beside:
    """The streams beside the picture: from when to when they last, and whether another one of ``videos``, by their
    indices, follows where the picture ends."""

    def __init__(self, videos: Collection[int]) -> None:
        self._videos, self._first, self._counts = videos, dict[int, int](), Counter[int]()
        self._first_s, self._end_s = math.inf, -math.inf

    def take(self, packet: Packet, pictures: int) -> None:
        """Note a packet of another stream, which comes after so many of the picture's."""
        if packet.stream_index in self._videos:
            self._first.setdefault(packet.stream_index, pictures)
            self._counts[packet.stream_index] += 1
        if packet.pts is not None and packet.time_base:
            at, unit = float(packet.pts * packet.time_base), float(packet.time_base)
            self._first_s, self._end_s = min(self._first_s, at), max(self._end_s, at + (packet.duration or 0) * unit)

    def follows(self, pictures: int) -> bool:
        """Whether another one begins with the last ``pictures``, of which FFmpeg may hold two back to the file's end. A
        stream of one picture is a thumbnail."""
        return any(pictures - 2 <= at and self._counts[index] > 1 for index, at in self._first.items() if at > 0)

    def span_s(self, stamps: Sequence[Stamp]) -> float:
        """Seconds from the first to the last of all streams; ``stamps`` are those of the picture."""
        own = [(s.pts, s.pts + s.lasts) for s in stamps if s.pts is not None]
        first_s = min((a for a, _ in own), default=math.inf)
        return max(self._end_s, *(b for _, b in own), -math.inf) - min(self._first_s, first_s)


def _count_video_streams(path: Path) -> int:
    """Also those that begin too late to be known when a file is opened: the whole file is read, and nothing kept."""
    options = {"fflags": "nobuffer", "probesize": str(1 << 50), "analyzeduration": str(1 << 50)}
    try:
        with vendor().open(str(path), options=options, metadata_errors="ignore") as container:
            return len(video_streams(container))
    except vendor().error.FFmpegError:
        return 0
