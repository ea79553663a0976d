"""A camera's stream: opened, its packets as they arrive, and the times of its pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from posewatch.addresses import connectable
from posewatch.errors import VideoError
from posewatch.redact import remember
from posewatch.video.clock import Clock, Stamp
from posewatch.video.opening import picture_s, picture_stream, vendor, without_clock

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

SILENT_S = 15.0
"""A connection without data, or without a picture, for so long is closed."""
KEYFRAME_S = 30.0
"""A connection that brings pictures, and none from which a recording can begin, for so long is closed. Many cameras
send one at each connection; others every few seconds."""


class Silent(VideoError):
    """The camera is connected and sends no picture."""


class NoKeyframe(Silent):
    """The camera sends pictures that are all predicted from others."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"connected, and no keyframe for {seconds:.3g} s")


def connect(url: str) -> InputContainer:
    """Open a camera's stream. Raises FFmpegError, and InputError for an address that can be read in several ways."""
    remember(url)
    url = connectable(url)
    scheme = url.partition("://")[0].lower()
    # Over UDP packets get lost: it is for cameras that refuse TCP only. Beside sound FFmpeg takes the times from the
    # camera's time of day, which is set under way; and it waits for sound that is announced and does not come.
    options = {"rtsp_flags": "prefer_tcp", "allowed_media_types": "video"} if scheme.startswith("rtsp") else {}
    return vendor().open(url, options=options, timeout=(SILENT_S, SILENT_S), metadata_errors="ignore")


def remedy(error: BaseException, otherwise: str) -> str:
    """What to do about a camera that gives nothing because of ``error``."""
    if isinstance(error, NoKeyframe):
        return "set a shorter interval between keyframes (I-frames) in the camera"
    refused = isinstance(error, vendor().error.HTTPUnauthorizedError)
    return "check the user and the password in its address" if refused else otherwise


def picture_of(container: InputContainer) -> VideoStream:
    """The camera's stream of pictures, see ``picture_stream``. Raises VideoError when it has none."""
    stream = picture_stream(container)
    if stream is None:
        raise VideoError("it sends no video (choose another of its streams)")
    return stream


def arriving(container: InputContainer, stream: VideoStream, silent_s: float = SILENT_S) -> Iterator[Packet]:
    """The packets of the pictures as they arrive. Raises FFmpegError, and Silent when none comes for ``silent_s``."""
    last = time.monotonic()
    for packet in container.demux():  # of all streams: sound alone must not keep a dead picture alive
        if packet.stream_index == stream.index and packet.size:
            last = time.monotonic()
            yield packet
        elif time.monotonic() - last > silent_s:
            raise Silent(f"connected, and no picture for {silent_s:g} s")


class LiveClock:
    """The times of a camera's pictures, in seconds since the first one of a connection.

    They are those of the camera's clock, put right where it jumps, and of arrival where there is none. ``in_order``:
    decoded pictures in the order of showing, else packets.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, *, in_order: bool) -> None:
        self.step_s = picture_s(container, stream)
        self._clock = Clock(self.step_s, counting=True, in_order=in_order)
        self._stamped = not without_clock(container)
        self._arrived_at: float | None = None
        self._first_s: float | None = None

    @property
    def arrived(self) -> bool:
        """Whether the last time is that of arrival."""
        return self._clock.arrived

    def __call__(self, pts_s: float | None, dts_s: float | None, lasts_s: float) -> float:
        """The time of the picture that has just arrived, with the stamps that it brings, in seconds."""
        now = time.monotonic()
        waited_s = 0.0 if self._arrived_at is None else now - self._arrived_at
        self._arrived_at = now
        stamp = Stamp(pts_s, dts_s, lasts_s) if self._stamped else Stamp(None)
        at = self._clock(stamp, waited_s)
        if self._first_s is None:
            self._first_s = at
        return at - self._first_s
