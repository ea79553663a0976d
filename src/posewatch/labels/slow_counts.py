"""Caches counts that take long over millions of clips: one thread counts, all threads use the result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
SLOW_S = 0.25
"""A count that is faster than this is repeated each time, so that it is exact."""
SHARE = 20
"""A slower count takes at most one part in so many of the time."""


@dataclass
class _Count:
    lock: threading.Lock = field(default_factory=threading.Lock)
    value: Any = None
    took: float = 0.0
    at: float | None = None


class SlowCounts:
    """The last value of each count, by name, for all threads of a process.

    The value of a slow count is up to ``SHARE`` times as old as the count takes. While one thread counts, the others
    get the value from before. ``clock`` returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._counts, self._lock = clock, dict[str, _Count](), threading.Lock()

    def get(self, name: str, count: Callable[[], T]) -> T:
        """The value of ``count()``, or a recent value with this ``name`` where counting takes long."""
        with self._lock:
            entry = self._counts.setdefault(name, _Count())
        if entry.at is not None and entry.took < SLOW_S:
            return self._count(entry, count)
        if self._fresh(entry) or not entry.lock.acquire(blocking=entry.at is None):
            return entry.value  # type: ignore[no-any-return]
        try:
            # another thread may have counted while this one waited for the lock
            return entry.value if self._fresh(entry) else self._count(entry, count)
        finally:
            entry.lock.release()

    def _fresh(self, entry: _Count) -> bool:
        return entry.at is not None and self._clock() - entry.at < SHARE * entry.took

    def _count(self, entry: _Count, count: Callable[[], T]) -> T:
        began = self._clock()
        value = count()
        now = self._clock()
        entry.value, entry.took, entry.at = value, now - began, now
        return value
