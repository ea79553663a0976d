"""How many records without an alarm are made: a bounded number of near misses, random moments."""

from __future__ import annotations

import math
import random


class Rate:
    """At most ``per_hour`` of something, evenly spread; 0: none. Times are seconds of the source."""

    def __init__(self, per_hour: float) -> None:
        self._every_s = 3600 / per_hour if per_hour else math.inf
        self._next_s = 0.0 if per_hour else math.inf

    def take(self, at_s: float) -> bool:
        """Whether one may be taken at ``at_s``; if so, it is."""
        if at_s < self._next_s:
            return False
        self._next_s = at_s + self._every_s
        return True


class Moments:
    """Random moments, ``per_hour`` of them: one drawn evenly from each stretch of equal length; 0: none."""

    def __init__(self, per_hour: float, draw: random.Random) -> None:
        self._every_s, self._draw = 3600 / per_hour if per_hour else math.inf, draw
        self._stretch, self._due_s = -1, math.inf

    def come(self, at_s: float) -> bool:
        """Whether a moment has come by ``at_s`` that had not come before."""
        if math.isinf(self._every_s):
            return False
        stretch = int(at_s // self._every_s)
        if stretch != self._stretch:
            self._stretch, self._due_s = stretch, (stretch + self._draw.random()) * self._every_s
        if at_s < self._due_s:
            return False
        self._due_s = math.inf
        return True
