"""A camera that is looked at only at times, when somebody else (Frigate) says that a person is there."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from posewatch.watch.sources import Frame, Silence, Source, Unwatched


class Gate(Protocol):
    """``wanted``: whether to look now; ``before_s``: seconds before that, to look at first."""

    before_s: float

    @property
    def wanted(self) -> bool: ...


class GatedSource:
    """The frames of ``source`` while ``gate`` wants them, or ``keep`` says so; ``Unwatched`` for each of the others.

    The last ``before_s`` seconds are kept in memory, and come first when the gate opens.
    """

    def __init__(self, source: Source, gate: Gate, fps: float) -> None:
        self._source, self._gate = source, gate
        self.name, self.live, self.counters = source.name, source.live, source.counters
        self._recent: deque[Frame] = deque(maxlen=round(gate.before_s * fps))
        self.keep: Callable[[], bool] = bool
        """Whether to go on looking: there is an alarm, perhaps."""

    def frames(self, stop: threading.Event) -> Iterator[Frame | Unwatched | Silence]:
        """Frames until ``stop`` is set or the source ends."""
        looking = False
        for frame in self._source.frames(stop):
            if not isinstance(frame, Frame):
                yield frame
                continue
            looking = self._gate.wanted or (looking and self.keep())
            if not looking:
                self._recent.append(frame)
                yield Unwatched(frame.time_s)
                continue
            while self._recent:
                earlier = self._recent.popleft()
                if frame.time_s - earlier.time_s <= self._gate.before_s:
                    yield earlier
            yield frame
