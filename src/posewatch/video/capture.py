"""A camera's stream recorded to files of a fixed length, without decoding, so that it costs almost no CPU time.

Packets are copied as they come. A segment begins with a keyframe, so its length is exact up to the distance between two
keyframes. A connection that breaks ends a segment and is opened again.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from posewatch.addresses import without_secrets
from posewatch.errors import ConfigError, VideoError
from posewatch.files import atomic
from posewatch.retry import retry
from posewatch.video.live import KEYFRAME_S, LiveClock, NoKeyframe, Silent, arriving, connect, picture_of, remedy
from posewatch.video.opening import vendor

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "http", "https")
"""Addresses that are streams rather than files."""
_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 1.0, 30.0


class _Disconnected(Exception):
    """The camera refused the connection, or closed it before a segment began; ``what_to_do`` about it."""

    def __init__(self, reason: str, what_to_do: str = "is the camera on?") -> None:
        super().__init__(reason)
        self.what_to_do = what_to_do


@dataclass(frozen=True)
class Segment:
    """A complete file: ``began`` when its first packet arrived (UTC), ``seconds`` of video."""

    path: Path
    began: datetime
    seconds: float


def is_stream(source: str) -> bool:
    """Whether ``source`` is a camera's address."""
    return "://" in source and source.partition("://")[0].lower() in SCHEMES


def capture(
    url: str,
    folder: Path,
    segment_s: float,
    duration_s: float,
    *,
    timeout_s: float = 60.0,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Segment]:
    """Write ``duration_s`` seconds of the stream at ``url`` to files of ``segment_s`` seconds in ``folder``.

    Yields each file when it is complete; the caller may delete it. Time is that of ``LiveClock``. Raises
    VideoError when the camera sends nothing for ``timeout_s`` seconds or refuses the password, ConfigError for lengths
    below zero, InputError for an address that can be read in several ways.
    """
    if segment_s <= 0 or duration_s <= 0:
        raise ConfigError(f"a capture needs lengths above 0, not {segment_s:g} and {duration_s:g} s")
    recorded_s = 0.0
    connection = _connection(url, folder, segment_s, duration_s, clock)

    def next_segment() -> Segment:
        nonlocal connection
        try:
            segment = next(connection, None)
            if segment is None:
                connection = _connection(url, folder, segment_s, duration_s - recorded_s, clock)
                segment = next(connection, None)
        except (vendor().error.FFmpegError, Silent) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise  # of our disk, not of the camera
            if isinstance(error, vendor().error.HTTPUnauthorizedError):  # many cameras lock out who tries it again
                why = f"{error.strerror} ({remedy(error, '')})"
                raise VideoError(f"nothing from {without_secrets(url)}: {why}") from None
            reason = str(getattr(error, "strerror", None) or error)
            raise _Disconnected(reason, remedy(error, "is the camera on?")) from None
        if segment is None:
            raise _Disconnected("the stream ended")
        return segment

    try:
        while recorded_s < duration_s - 0.01:
            start = time.monotonic()
            try:
                segment = retry(
                    next_segment,
                    lambda error: isinstance(error, _Disconnected),
                    timeout_s=timeout_s,
                    first_s=_FIRST_BACKOFF_S,
                    max_s=_MAX_BACKOFF_S,
                )
            except _Disconnected as error:
                waited_s = time.monotonic() - start
                raise VideoError(
                    f"nothing from {without_secrets(url)} for {waited_s:.0f} s: {error} ({error.what_to_do})"
                ) from None
            recorded_s += segment.seconds
            yield segment
    finally:
        connection.close()


def _connection(
    url: str, folder: Path, segment_s: float, remaining_s: float, wall: Callable[[], datetime]
) -> Generator[Segment, None, None]:
    """The segments of one connection, of ``remaining_s`` seconds at most. Raises FFmpegError when it breaks early."""
    writer: _Writer | None = None
    with connect(url) as container:
        stream = picture_of(container)
        clock, began = LiveClock(container, stream, in_order=False), time.monotonic()
        try:
            for packet in arriving(container, stream):
                unit = float(packet.time_base)
                pts_s, dts_s = (None if stamp is None else stamp * unit for stamp in (packet.pts, packet.dts))
                lasts_s = (packet.duration or 0) * unit
                at = clock(pts_s, dts_s, lasts_s)
                if writer is None and (packet.is_corrupt or not packet.is_keyframe):
                    if (waited_s := time.monotonic() - began) > KEYFRAME_S:
                        raise NoKeyframe(waited_s)
                    continue
                if writer is not None and packet.is_keyframe and at - writer.first_s >= segment_s - 1e-6:
                    yield writer.finish(until=at)
                    remaining_s -= writer.seconds
                    writer = None
                    if remaining_s <= 0.01:
                        return
                if writer is not None and at - writer.first_s >= remaining_s - 1e-6:
                    break
                if writer is None:
                    writer = _Writer(folder, stream, at, wall())
                reordered_s = max(0.0, pts_s - dts_s) if pts_s is not None and dts_s is not None else 0.0
                writer.write(packet, at, at - reordered_s, clock.step_s if clock.arrived else lasts_s)
        except (vendor().error.FFmpegError, Silent):
            if writer is None:
                raise
        if writer is not None and writer.packets:  # the part before the connection broke
            yield writer.finish()


class _Writer:
    """Copies packets into one Matroska file, a format for every codec that stays readable when it breaks off."""

    def __init__(self, folder: Path, stream: Any, first_s: float, began: datetime) -> None:
        self.first_s, self.began, self.packets = first_s, began, 0
        self.seconds = 0.0
        self._path = folder / f"{began:%Y%m%dT%H%M%S.%f}Z.mkv"
        self._place = ExitStack()
        self._file = vendor().open(str(self._place.enter_context(atomic(self._path))), "w", format="matroska")
        self._stream = self._file.add_stream_from_template(stream)
        self._origin_s: float | None = None
        self._last = -1

    def write(self, packet: Any, shown_s: float, decoded_s: float, lasts_s: float) -> None:
        """Append a packet that is shown, decoded and lasts as given, in seconds of the stream."""
        if self._origin_s is None:
            self._origin_s = decoded_s
        self.seconds = max(self.seconds, shown_s - self._origin_s + lasts_s)
        # Matroska counts milliseconds, and the packets' times of decoding have to grow
        self._last = dts = max(self._last + 1, round(1000 * (decoded_s - self._origin_s)))
        packet.time_base = Fraction(1, 1000)
        packet.dts, packet.pts = dts, max(dts, round(1000 * (shown_s - self._origin_s)))
        packet.duration = round(1000 * lasts_s)
        packet.stream = self._stream
        self._file.mux(packet)
        self.packets += 1

    def finish(self, until: float | None = None) -> Segment:
        """Close the file; ``until`` is when the next one begins, in seconds of the stream."""
        self._file.close()
        self._place.close()
        if until is not None:
            self.seconds = until - self.first_s
        return Segment(self._path, self.began, self.seconds)
