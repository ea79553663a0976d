"""Where frames come from: a file, whose every frame counts, or a camera, which does not wait.

Both give ``Moment``s on a grid of ``fps`` frames per second, placed by timestamps. A camera's frames that nobody
fetched in time are dropped, and counted.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from posewatch import video
from posewatch.errors import VideoError
from posewatch.video.capture import connect, without_secrets
from posewatch.video.reading import Image, shown_size, upright, vendor

PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits before the next attempts to connect to a camera; the last is repeated."""
ROOM_S = 2.0
"""Seconds of a camera's frames that wait for their turn; beyond it the oldest are dropped."""


@dataclass(frozen=True)
class Moment:
    """One frame: ``index`` on the grid (gaps: frames that are missing), ``time_s`` seconds since the source began,
    ``wall`` when it was taken (UTC; of a file: None), ``image`` uint8 (H, W, 3) RGB."""

    index: int
    time_s: float
    wall: datetime | None
    image: Image


@dataclass
class Counters:
    """What happened to a source's frames so far."""

    read: int = 0
    dropped: int = 0
    connects: int = 0
    connected: bool = False


class Source(Protocol):
    """``name`` is fit for people and files; ``live``: frames are lost when nobody takes them."""

    name: str
    live: bool
    counters: Counters

    def frames(self, stop: threading.Event) -> Iterator[Moment]: ...


class FileSource:
    """A video file; every frame on the grid is given, however long it takes."""

    live = False

    def __init__(self, path: Path, fps: float, max_side: int) -> None:
        self.path, self._fps, self._max_side = path, fps, max_side
        self.name, self.counters = path.name, Counters()

    def frames(self, stop: threading.Event) -> Iterator[Moment]:
        """Raises VideoError for a file that cannot be read."""
        self.counters.connected = True
        for frame in video.read(self.path, self._fps, self._max_side):
            if stop.is_set():
                break
            self.counters.read += 1
            yield Moment(frame.index, frame.time_s, None, frame.image)
        self.counters.connected = False


class CameraSource:
    """A stream by its address. A thread reads all the time, so that what is taken from it is at most ``ROOM_S`` old.

    A connection that breaks is opened again, with pauses; ``patience_s`` seconds without a picture end it with a
    VideoError (None: never). ``say`` is told in a line what goes wrong.
    """

    live = True

    def __init__(
        self,
        url: str,
        fps: float,
        max_side: int,
        *,
        patience_s: float | None = None,
        name: str = "",
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self.url, self._fps, self._max_side, self._patience = url, fps, max_side, patience_s
        self.name, self.counters, self._say = name or without_secrets(url), Counters(), say
        self._waiting: deque[Moment] = deque()
        self._news = threading.Condition()
        self._last = -1
        self._failure: VideoError | None = None

    def frames(self, stop: threading.Event) -> Iterator[Moment]:
        """Raises VideoError when the camera has been away for too long."""
        reader = threading.Thread(target=self._read, args=(stop,), daemon=True)
        reader.start()
        while True:
            with self._news:
                while not self._waiting and self._failure is None and not stop.is_set():
                    self._news.wait(0.2)
                if stop.is_set():
                    return
                if not self._waiting:
                    assert self._failure is not None
                    raise self._failure
                moment = self._waiting.popleft()
            self.counters.read += 1
            yield moment

    def _read(self, stop: threading.Event) -> None:
        begun, began = time.monotonic(), datetime.now(UTC)
        heard, attempt = begun, 0
        while not stop.is_set():
            reason = "the stream ended"
            before = self._last
            try:
                self.counters.connects += 1
                with connect(self.url) as container:
                    self._decode(container, stop, time.monotonic() - begun, began)
            except VideoError as error:
                reason = str(error)
            except (vendor().error.FFmpegError, OSError) as error:
                reason = str(getattr(error, "strerror", None) or error)
            self.counters.connected = False
            if self._last > before:
                heard, attempt = time.monotonic(), 0
            away = time.monotonic() - heard
            if self._patience is not None and away >= self._patience:
                with self._news:
                    self._failure = VideoError(f"nothing from {self.name} for {away:.0f} s: {reason} (is it on?)")
                    self._news.notify_all()
                return
            pause = PAUSES_S[min(attempt, len(PAUSES_S) - 1)]
            self._say(f"camera {self.name}: {reason}; connecting again in {pause:g} s")
            attempt += 1
            if self._patience is not None:
                pause = min(pause, max(0.05, self._patience - away))
            stop.wait(pause)

    def _decode(self, container: Any, stop: threading.Event, offset_s: float, began: datetime) -> None:
        if not container.streams.video:
            raise VideoError("it sends no video (choose another of its streams)")
        stream = container.streams.video[0]
        stream.thread_count = 1
        origin: float | None = None
        for frame in container.decode(stream):
            if stop.is_set():
                return
            if frame.time is None:
                continue
            if origin is None:
                origin = float(frame.time)
                self.counters.connected = True
            at = offset_s + float(frame.time) - origin
            index = int(at * self._fps + 1e-6)
            if index <= self._last:
                continue
            self._last = index
            size = video.fit(*shown_size(frame, stream), self._max_side)
            moment = Moment(index, index / self._fps, began + timedelta(seconds=at), upright(frame, size))
            with self._news:
                if len(self._waiting) >= max(2, ROOM_S * self._fps):
                    self._waiting.popleft()
                    self.counters.dropped += 1
                self._waiting.append(moment)
                self._news.notify_all()
