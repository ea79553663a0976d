"""When an alarm begins and when it ends, decided while time goes on."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from posewatch.errors import ConfigError
from posewatch.recognition.events.alarms import Hysteresis


@dataclass(frozen=True)
class Change:
    """``what`` happened at ``at_s``: "raised" or "ended". The alarm's times are seconds of the source: it began at
    ``start_s``, was last above the lower threshold at ``end_s``; ``peak`` is its highest probability."""

    what: str
    at_s: float
    start_s: float
    end_s: float
    peak: float


class LiveAlarm:
    """Smooths the probabilities of the windows and applies ``hysteresis`` as they come.

    The mean of the last ``smooth`` windows must reach ``on``; the alarm is raised when it has not fallen below ``off``
    for ``min_s`` seconds since, and ends when it has been below for longer than ``merge_s``. A window says something
    about the time around its middle, so an alarm begins half a window (``window_s``) before it could be known.
    """

    def __init__(self, hysteresis: Hysteresis, window_s: float, smooth: int = 2) -> None:
        if smooth < 1:
            raise ConfigError(f"an alarm needs the mean of at least 1 window, not {smooth}")
        self._hysteresis, self._half = hysteresis, window_s / 2
        self._recent: deque[float] = deque(maxlen=smooth)
        self._since: float | None = None
        self._high = self._peak = 0.0
        self.raised = False
        self.probability = 0.0
        """The smoothed probability, as of the last window."""

    def update(self, at_s: float, p: float) -> Change | None:
        """The window that ends at ``at_s`` seconds has probability ``p``. Times must not go back."""
        self._recent.append(p)
        self.probability = sum(self._recent) / len(self._recent)
        limits = self._hysteresis
        if self.probability >= (limits.off if self._since is not None else limits.on):
            if self._since is None:
                self._since, self._peak = at_s, 0.0
            self._high, self._peak = at_s, max(self._peak, self.probability)
            if not self.raised and at_s - self._since >= limits.min_s - 1e-9:
                self.raised = True
                return self._change("raised", at_s)
            return None
        if self._since is None:
            return None
        if self.raised and at_s - self._high <= limits.merge_s + 1e-9:
            return None
        return self.finish(at_s)

    def finish(self, at_s: float) -> Change | None:
        """End what is going on: the source ends, or the probability fell."""
        ended = self._change("ended", at_s) if self.raised else None
        self.raised, self._since = False, None
        return ended

    def _change(self, what: str, at_s: float) -> Change:
        since = at_s if self._since is None else self._since
        return Change(what, at_s, max(0.0, since - self._half), max(0.0, self._high - self._half), self._peak)
