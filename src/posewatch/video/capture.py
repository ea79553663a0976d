"""A camera's stream cut into files of a fixed length, without decoding: hours of it cost next to nothing.

Packets are copied as they come; a segment begins with a keyframe, so segments are as long as asked up to the
distance between two keyframes. A connection that breaks ends a segment and is opened anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from posewatch.errors import ConfigError, VideoError
from posewatch.video.reading import vendor

if TYPE_CHECKING:
    from av.container import InputContainer

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "http", "https")
"""Addresses that are streams rather than files."""
_SILENCE_S = 15.0
"""A camera that sends nothing for so long is taken for gone."""
_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits before the next attempts to connect; the last goes on until ``patience_s`` is over."""


@dataclass(frozen=True)
class Segment:
    """A finished file: ``began`` when its first picture came in (UTC), ``seconds`` of video by its timestamps."""

    path: Path
    began: datetime
    seconds: float


def is_stream(source: str) -> bool:
    """Whether ``source`` is a camera's address."""
    return "://" in source and source.partition("://")[0].lower() in SCHEMES


def without_secrets(url: str) -> str:
    """The address without user, password and query, for messages, names and lineage."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path, "", ""))


def capture(
    url: str,
    folder: Path,
    segment_s: float,
    duration_s: float,
    *,
    patience_s: float = 60.0,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Segment]:
    """Write ``duration_s`` seconds of the stream at ``url`` to files of ``segment_s`` seconds in ``folder``.

    Yields each file when it is complete; the caller may delete it. Time counts by the stream's timestamps. Raises
    VideoError when nothing can be had from the camera for ``patience_s`` seconds, ConfigError for lengths below zero.
    """
    if segment_s <= 0 or duration_s <= 0:
        raise ConfigError(f"a capture needs lengths above 0, not {segment_s:g} and {duration_s:g} s")
    folder.mkdir(parents=True, exist_ok=True)
    done, heard, attempt = 0.0, time.monotonic(), 0
    while done < duration_s - 0.01:
        reason = "the stream ended"
        try:
            with connect(url) as container:
                for segment in _segments(container, folder, segment_s, duration_s - done, clock):
                    done, heard, attempt = done + segment.seconds, time.monotonic(), 0
                    yield segment
                    if done >= duration_s - 0.01:
                        return
        except vendor().error.FFmpegError as error:
            reason = str(error.strerror or error)
        waited = time.monotonic() - heard
        if waited >= patience_s:
            raise VideoError(f"nothing from {without_secrets(url)} for {waited:.0f} s: {reason} (is the camera on?)")
        pause = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
        time.sleep(min(pause, max(0.05, patience_s - waited)))
        attempt += 1


def connect(url: str) -> InputContainer:
    scheme = url.partition("://")[0].lower()
    options = {"rtsp_transport": "tcp"} if scheme.startswith("rtsp") else {}  # UDP loses packets, which stay visible
    return vendor().open(url, options=options, timeout=(_SILENCE_S, _SILENCE_S), metadata_errors="ignore")


def _segments(
    container: InputContainer, folder: Path, segment_s: float, left_s: float, clock: Callable[[], datetime]
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
                left_s -= writer.seconds
                writer = None
                if left_s <= 0.01:
                    return
            if writer is not None and at * tick - writer.first_s >= left_s:
                break
            if writer is None:
                writer = _Writer(folder, stream, at * tick, clock())
            writer.write(packet)
    except vendor().error.FFmpegError:
        if writer is None:
            raise
    if writer is not None and writer.packets:  # what came in before the connection broke is kept
        yield writer.finish()


class _Writer:
    """Copies packets into one Matroska file, which takes whatever a camera sends and survives a cut."""

    def __init__(self, folder: Path, stream: Any, first_s: float, began: datetime) -> None:
        self.first_s, self.began, self.packets = first_s, began, 0
        self.seconds = 0.0
        self._path = folder / f"{began:%Y%m%dT%H%M%S.%f}Z.mkv"
        self._temp = self._path.with_name(f".{self._path.name}.part")
        self._file = vendor().open(str(self._temp), "w", format="matroska")
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
        self._temp.replace(self._path)
        if until is not None:
            self.seconds = until - self.first_s
        return Segment(self._path, self.began, self.seconds)
