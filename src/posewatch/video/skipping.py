"""Leaving out of decoding what is not shown: a file at 30 pictures a second that is read at 10.

Left out are pictures that no frame of the grid shows and no other picture is predicted from. All others must come out
as the file says, one for each packet; else ``Doubt``, and the file is decoded whole.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from posewatch.video.clock import REORDER
from posewatch.video.scan import Scan
from posewatch.video.unreferenced import Unreferenced, unreferenced

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_NEAR_S = 1e-5
"""A picture that a frame misses by so little is decoded, too."""


class Doubt(Exception):
    """What was decoded does not tell whether all of the file would have given the same pictures."""


@dataclass(frozen=True)
class Grid:
    """The frames that are read: one every 1 / ``rate`` seconds from ``begin_s`` up to ``end_s``, and how much later
    than its time a picture may come, ``jitter_s``."""

    begin_s: float
    end_s: float
    rate: float
    jitter_s: float

    def shows(self, times: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which pictures frames of the grid may show, of all of a video in the order of showing.

        ``times`` (N,) in seconds. The first and the last one always count.
        """
        ends_s = np.append(times[1:], math.inf) - self.jitter_s
        index = np.ceil((times - self.jitter_s - _NEAR_S - self.begin_s) * self.rate).clip(0)
        frame_s = self.begin_s + index / self.rate
        shown = (frame_s < ends_s + _NEAR_S) & (frame_s < self.end_s)
        shown[:1] = shown[-1:] = True
        return shown


@dataclass(order=True)
class _Sent:
    """A packet that went to the decoder; ``number`` in the order of decoding."""

    time: float
    number: int
    pts: int
    spared: bool


def skipping(stream: VideoStream, scan: Scan, grid: Grid) -> Skipping | None:
    """What to leave out of an opened stream for the frames of a grid; None: nothing, or it cannot be told.

    Only files without any fault are asked: each picture has its own time from the container, and none is damaged or
    missing. The decoder must know from the beginning how far pictures are reordered, else it loses some.
    """
    if not scan.times.regular or scan.breaks_off or scan.damaged or scan.codec_ends_s is not None:
        return None
    test = unreferenced(stream)
    if test is None:
        return None
    times = np.asarray(scan.times.times)
    before = np.zeros(len(times), int)
    for distance in range(1, min(REORDER + 1, len(times))):
        before[distance:] += times[:-distance] > times[distance:]
    if before.max(initial=0) > stream.codec_context.reorder_depth:
        return None
    times = np.sort(times)
    shown = grid.shows(times)
    return None if shown.all() else Skipping(times, shown, test)


class Skipping:
    """Says of each packet whether its picture is left out, and checks what comes out of the decoder.

    A picture is handed on when all that were decoded before it have come out, so that none is which was predicted from
    one that is in doubt.
    """

    def __init__(self, times: NDArray[np.float64], shown: NDArray[np.bool_], test: Unreferenced) -> None:
        self._times, self._shown, self._test = times, shown, test
        self._sent: list[_Sent] = []  # a heap, by time
        self._open: deque[int] = deque()  # the numbers of pictures that must come out
        self._out: set[int] = set()
        self._held: deque[tuple[_Sent, VideoFrame | None]] = deque()
        self._count, self._last_s = 0, -math.inf
        self._shape: tuple[int, int, str] | None = None

    def send(self, packet: Packet, time: float) -> bool:
        """Note the next packet, whose picture is shown at ``time``; True: the decoder is to leave it out.

        Nothing is left out before the first picture came out: it stands for all that cannot be decoded before it.
        """
        if packet.pts is None or time <= self._last_s:
            raise Doubt
        near = int(np.searchsorted(self._times, time - _NEAR_S))
        unreferenced = self._test(bytes(packet))
        needed = self._shown[near : np.searchsorted(self._times, time + _NEAR_S)]
        spared = self._shape is not None and unreferenced and len(needed) > 0 and not needed.any()
        heapq.heappush(self._sent, _Sent(time, self._count, packet.pts, spared))
        if not spared:
            self._open.append(self._count)
        self._count += 1
        return spared

    def take(self, frame: VideoFrame) -> Iterator[tuple[float, VideoFrame | None]]:
        """Take a picture from the decoder; (seconds, picture) of what can be handed on, None for one left out."""
        shape = (frame.width, frame.height, frame.format.name)
        self._shape = self._shape or shape
        if frame.is_corrupt or frame.interlaced_frame or shape != self._shape:
            raise Doubt
        while self._sent and self._sent[0].spared and self._sent[0].pts != frame.pts:
            self._held.append((heapq.heappop(self._sent), None))
        if not self._sent or self._sent[0].pts != frame.pts:
            raise Doubt
        sent = heapq.heappop(self._sent)
        self._last_s = sent.time
        self._held.append((sent, frame))
        self._out.add(sent.number)
        while self._open and self._open[0] in self._out:
            self._out.discard(self._open.popleft())
        yield from self._ready()

    def finish(self) -> Iterator[tuple[float, VideoFrame | None]]:
        """What is left when the decoder is empty."""
        if self._open:
            raise Doubt
        yield from self._ready()

    def _ready(self) -> Iterator[tuple[float, VideoFrame | None]]:
        while self._held:
            sent, frame = self._held[0]
            if not sent.spared and self._open and sent.number > self._open[0]:
                return
            self._held.popleft()
            yield sent.time, frame
