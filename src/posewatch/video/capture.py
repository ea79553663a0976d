"""A camera's stream recorded to files of a fixed length, without decoding, so that it costs almost no CPU time.

Packets are copied as they come. A segment begins with a keyframe, so its length is exact up to the distance between two
keyframes. A connection that breaks ends a segment and is opened again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posewatch.addresses import connectable, without_secrets
from posewatch.errors import ConfigError, VideoError
from posewatch.files import atomic
from posewatch.redact import remember
from posewatch.retry import retry
from posewatch.video.opening import vendor

if TYPE_CHECKING:
    from av.container import InputContainer

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "http", "https")
"""Addresses that are streams rather than files."""
_READ_TIMEOUT_S = 15.0
"""A connection without data for so long is closed."""
_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 1.0, 30.0


class _Disconnected(Exception):
    """The camera refused the connection, or closed it before a segment began."""


@dataclass(frozen=True)
class Segment:
    """A complete file: ``began`` when its first packet arrived (UTC), ``seconds`` of video by its timestamps."""

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

    Yields each file when it is complete; the caller may delete it. Time is measured by the stream's timestamps. Raises
    VideoError when the camera sends nothing for ``timeout_s`` seconds, ConfigError for lengths below zero,
    InputError for an address that can be read in several ways.
    """
    if segment_s <= 0 or duration_s <= 0:
        raise ConfigError(f"a capture needs lengths above 0, not {segment_s:g} and {duration_s:g} s")
    folder.mkdir(parents=True, exist_ok=True)
    recorded_s = 0.0
    connection = _connection(url, folder, segment_s, duration_s, clock)

    def next_segment() -> Segment:
        nonlocal connection
        try:
            segment = next(connection, None)
            if segment is None:
                connection = _connection(url, folder, segment_s, duration_s - recorded_s, clock)
                segment = next(connection, None)
        except vendor().error.FFmpegError as error:
            raise _Disconnected(str(error.strerror or error)) from None
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
                    f"nothing from {without_secrets(url)} for {waited_s:.0f} s: {error} (is the camera on?)"
                ) from None
            recorded_s += segment.seconds
            yield segment
    finally:
        connection.close()


def connect(url: str) -> InputContainer:
    """Open a camera's stream. Raises FFmpegError, and InputError for an address that can be read in several ways."""
    remember(url)
    url = connectable(url)
    scheme = url.partition("://")[0].lower()
    options = {"rtsp_transport": "tcp"} if scheme.startswith("rtsp") else {}  # over UDP packets get lost
    return vendor().open(url, options=options, timeout=(_READ_TIMEOUT_S, _READ_TIMEOUT_S), metadata_errors="ignore")


def _connection(
    url: str, folder: Path, segment_s: float, remaining_s: float, clock: Callable[[], datetime]
) -> Generator[Segment, None, None]:
    """The segments of one connection, of ``remaining_s`` seconds at most. Raises FFmpegError when it breaks early."""
    with connect(url) as container:
        yield from _segments(container, folder, segment_s, remaining_s, clock)


def _segments(
    container: InputContainer, folder: Path, segment_s: float, remaining_s: float, clock: Callable[[], datetime]
) -> Iterator[Segment]:
    if not container.streams.video:
        raise VideoError("the camera sends no video (choose another of its streams)")
    stream = container.streams.video[0]
    tick = float(stream.time_base or 1 / 90000)
    writer: _Writer | None = None
    try:
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_corrupt or (writer is None and not packet.is_keyframe):
                continue
            at = packet.pts if packet.pts is not None else packet.dts
            if at is None:
                continue  # before the camera's first time report
            if writer is not None and packet.is_keyframe and at * tick - writer.first_s >= segment_s - 1e-6:
                yield writer.finish(until=at * tick)
                remaining_s -= writer.seconds
                writer = None
                if remaining_s <= 0.01:
                    return
            if writer is not None and at * tick - writer.first_s >= remaining_s:
                break
            if writer is None:
                writer = _Writer(folder, stream, at * tick, clock())
            writer.write(packet)
    except vendor().error.FFmpegError:
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
        self._origin: int | None = None
        self._last_dts: int | None = None

    def write(self, packet: Any) -> None:
        dts = packet.dts if packet.dts is not None else packet.pts
        if self._last_dts is not None and dts <= self._last_dts:
            return  # a camera that sets its clock back
        self._last_dts = dts
        if self._origin is None:
            self._origin = dts
        unit = float(packet.time_base)
        shown = packet.pts if packet.pts is not None else dts
        self.seconds = max(self.seconds, (shown - self._origin + (packet.duration or 0)) * unit)
        packet.dts, packet.pts = dts - self._origin, shown - self._origin
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
