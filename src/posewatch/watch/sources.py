"""Where frames come from: a file, of which every frame is used, or a camera, which does not wait.

Both give ``Frame``s on a grid of ``fps`` frames per second, placed by their timestamps. A camera's frames that are not
taken in time are dropped and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from posewatch import video
from posewatch.addresses import connectable, without_secrets
from posewatch.errors import VideoError
from posewatch.names import readable
from posewatch.video.clock import GAP_S
from posewatch.video.live import SILENT_S, LiveClock, NoKeyframe, Silent, arriving, connect, picture_of, remedy
from posewatch.video.opening import vendor
from posewatch.video.orientation import Image, Upright, shown_size

BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits before the next attempts to connect to a camera; the last is repeated."""
REFUSED_S = (30.0, 300.0, 1900.0)
"""The same for a camera that refuses the password: many lock out who tries five times (Hikvision, Dahua: for half an
hour, of which some count anew from each try)."""
BUFFER_S = 2.0
"""Seconds of a camera's frames that are buffered; beyond it the oldest are dropped."""
SILENCE_S, TELL_S = GAP_S, 2.0
"""After so many seconds without a picture a camera's silence is told, and how often from then on."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """One frame of a source.

    ``index`` is its place on the grid (a gap is a missing frame), ``time_s`` seconds since the source began, ``wall``
    the time when a camera's frame arrived (UTC; None for a file), ``image`` uint8 (H, W, 3) RGB.
    """

    index: int
    time_s: float
    wall: datetime | None
    image: Image


@dataclass(frozen=True)
class Unwatched:
    """In place of a camera's frame at ``time_s`` seconds that need not be looked at: nobody is there."""

    time_s: float


@dataclass(frozen=True)
class Silence:
    """A camera sends no pictures, at ``time_s`` seconds since the source began; what was going on has ended."""

    time_s: float


@dataclass
class Counters:
    """Frames read and dropped so far, connections opened, and whether the source is connected now."""

    read: int = 0
    dropped: int = 0
    connects: int = 0
    connected: bool = False


class Source(Protocol):
    """A file or a camera. ``name`` is for messages and file names; ``live`` means that frames not taken are lost."""

    name: str
    live: bool
    counters: Counters

    def frames(self, stop: threading.Event) -> Iterator[Frame | Unwatched | Silence]: ...


class FileSource:
    """A video file. Every frame on the grid is given, however long it takes."""

    live = False

    def __init__(self, path: Path, fps: float, max_side: int) -> None:
        self.path, self._fps, self._max_side = path, fps, max_side
        self.name, self.counters = readable(path.name), Counters()

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        """All frames until ``stop`` is set. Raises VideoError for a file that cannot be read."""
        self.counters.connected = True
        info = video.probe(self.path)
        for note in (*info.notes, *([info.trouble] if info.trouble else [])):
            _LOG.warning("%s: %s", self.name, note)
        for frame in video.read(self.path, self._fps, self._max_side):
            if stop.is_set():
                break
            self.counters.read += 1
            yield Frame(frame.index, frame.time_s, None, frame.image)
        self.counters.connected = False


class CameraSource:
    """A stream by its address. A thread reads all the time, so that frames are at most ``BUFFER_S`` old.

    A broken connection is logged and opened again, with backoff. After ``timeout_s`` seconds without a frame the source
    ends with a VideoError (None: never).
    """

    live = True

    def __init__(
        self, url: str, fps: float, max_side: int, *, timeout_s: float | None = None, name: str = ""
    ) -> None:  # fmt: skip
        connectable(url)  # an address that cannot be understood is told at once, not by retries without end
        self.url, self._fps, self._max_side, self._timeout_s = url, fps, max_side, timeout_s
        self.name, self.counters = name or without_secrets(url), Counters()
        self._buffer: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._last_index = -1
        self._failure: VideoError | None = None

    def frames(self, stop: threading.Event) -> Iterator[Frame | Silence]:
        """Frames until ``stop`` is set, and ``Silence`` every ``TELL_S`` while there is none for ``SILENCE_S``. Raises
        VideoError when the camera was unavailable for ``timeout_s``."""
        threading.Thread(target=self._read, args=(stop,), daemon=True).start()
        begin = time.monotonic()
        tell = begin + SILENCE_S
        while True:
            with self._changed:
                if not self._buffer and self._failure is None and not stop.is_set():
                    self._changed.wait(0.2)
                if stop.is_set():
                    return
                frame = self._buffer.popleft() if self._buffer else None
                if frame is None and self._failure is not None:
                    raise self._failure
            if frame is not None:
                self.counters.read += 1
                yield frame
                tell = time.monotonic() + SILENCE_S
            elif time.monotonic() >= tell:
                yield Silence(time.monotonic() - begin)
                tell = time.monotonic() + TELL_S

    def _read(self, stop: threading.Event) -> None:
        """Connect and decode, again and again, until ``stop`` is set or the timeout has passed."""
        start = time.monotonic()
        last_frame, attempt, refusals = start, 0, 0
        while not stop.is_set():
            reason, what_to_do = "the stream ended", "is it on?"
            before, refused = self._last_index, False
            try:
                self.counters.connects += 1
                with connect(self.url) as container:
                    self._decode(container, stop, time.monotonic() - start)
            except VideoError as error:
                reason, what_to_do = str(error), remedy(error, what_to_do)
            except (vendor().error.FFmpegError, OSError) as error:
                reason, what_to_do = str(getattr(error, "strerror", None) or error), remedy(error, what_to_do)
                refused = isinstance(error, vendor().error.HTTPUnauthorizedError)
            except Exception as error:  # else the thread ends, and the camera seems to be watched
                reason = f"{type(error).__name__}: {error}"
            self.counters.connected = False
            if self._last_index > before:
                last_frame, attempt, refusals = time.monotonic(), 0, 0
            silent_s = time.monotonic() - last_frame
            if self._timeout_s is not None and silent_s >= self._timeout_s:
                with self._changed:
                    self._failure = VideoError(
                        f"no frame from {self.name} for {silent_s:.0f} s: {reason} ({what_to_do})"
                    )
                    self._changed.notify_all()
                return
            if refused:
                backoff = REFUSED_S[min(refusals, len(REFUSED_S) - 1)]
                reason, refusals = f"{reason} ({what_to_do})", refusals + 1
            else:
                backoff = BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]
                attempt, refusals = attempt + 1, 0
            _LOG.warning("camera %s: %s; connecting again in %g s", self.name, reason, backoff)
            if self._timeout_s is not None:
                backoff = min(backoff, max(0.05, self._timeout_s - silent_s))
            stop.wait(backoff)

    def _decode(self, container: Any, stop: threading.Event, offset_s: float) -> None:
        """Buffer the frames of one connection, which began ``offset_s`` seconds after the source."""
        stream = picture_of(container)
        stream.thread_count = 1
        clock, upright = LiveClock(container, stream, in_order=True), Upright()
        begin_s = max(offset_s, (self._last_index + 1) / self._fps)
        for decoded in self._decoded(container, stream):
            if stop.is_set():
                return
            unit = float(decoded.time_base or 0)
            at = begin_s + clock(decoded.time, None, (decoded.duration or 0) * unit)
            index = self._place(at, clock.arrived)
            if index is None:
                continue
            self._last_index = index
            size = video.fit(*shown_size(decoded, stream), self._max_side)
            frame = Frame(index, index / self._fps, datetime.now(UTC), upright(decoded, size))
            with self._changed:
                if len(self._buffer) >= max(2, BUFFER_S * self._fps):
                    self._buffer.popleft()
                    self.counters.dropped += 1
                self._buffer.append(frame)
                self.counters.connected = True
                self._changed.notify_all()

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """The decoded pictures. Raises FFmpegError when the connection breaks, Silent when no picture comes."""
        silent_s = min(SILENT_S, self._timeout_s or SILENT_S)
        last, keyframes = time.monotonic(), 0
        for packet in arriving(container, stream, silent_s):
            keyframes += packet.is_keyframe
            try:
                pictures = packet.decode()
            except vendor().error.InvalidDataError:  # damaged on the way; the next keyframe puts it right
                pictures = []
            if pictures:
                last = time.monotonic()
            elif time.monotonic() - last > silent_s:
                if not keyframes:
                    raise NoKeyframe(silent_s)
                raise Silent(f"connected, and no picture can be decoded for {silent_s:g} s")
            yield from pictures

    def _place(self, at: float, arrived: bool) -> int | None:
        """The place of a frame at ``at`` seconds on the grid; None: it is taken.

        Times of arrival are uneven: such a frame may be half a place early or late, so that a camera of the grid's own
        rate leaves no place empty.
        """
        along, last = at * self._fps, self._last_index
        place = int(along + 1e-6)
        if arrived and last + 0.5 <= along < last + 2.5:
            place = last + 1
        return place if place > last else None
