"""Figures that are cheap to count for thousands of clips and not for millions: counted by one, used by all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
SLOW_S = 0.25
"""What is counted faster than this is counted each time, and always exact."""
SHARE = 20
"""What is slower is counted for one part in so many of the time at most."""


@dataclass
class _Figure:
    lock: threading.Lock = field(default_factory=threading.Lock)
    value: Any = None
    took: float = 0.0
    at: float = 0.0


class Reused:
    """The last value of each figure, by name, for all threads of a process.

    A slow figure is up to ``SHARE`` times as old as it takes to count it. While one thread counts, the others get the
    value from before. ``clock`` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._figures, self._lock = clock, dict[str, _Figure](), threading.Lock()

    def get(self, name: str, count: Callable[[], T]) -> T:
        """The figure ``name``: what ``count()`` returns, or returned a moment ago where that takes long."""
        with self._lock:
            figure = self._figures.setdefault(name, _Figure())
        if figure.took < SLOW_S and figure.at:
            return self._count(figure, count)
        fresh = self._clock() - figure.at < SHARE * figure.took
        if figure.at and (fresh or not figure.lock.acquire(blocking=False)):
            return figure.value  # type: ignore[no-any-return]
        if not figure.at:
            figure.lock.acquire()
        try:
            if figure.at and self._clock() - figure.at < SHARE * figure.took:  # counted while we waited
                return figure.value  # type: ignore[no-any-return]
            return self._count(figure, count)
        finally:
            figure.lock.release()

    def _count(self, figure: _Figure, count: Callable[[], T]) -> T:
        began = self._clock()
        value = count()
        figure.value, figure.took, figure.at = value, self._clock() - began, self._clock() or 1e-9
        return value
