"""Decides, window by window, when an alarm is raised and when it ends."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from posewatch.errors import ConfigError
from posewatch.events.alarms import Hysteresis


@dataclass(frozen=True)
class AlarmEvent:
    """An alarm was raised or has ended at ``at_s``. All times are seconds since the source began.

    The alarm began at ``start_s`` and was last above the lower threshold at ``end_s``; ``peak`` is its highest
    probability so far.
    """

    kind: Literal["raised", "ended"]
    at_s: float
    start_s: float
    end_s: float
    peak: float


class LiveAlarm:
    """Smooths the probabilities of the windows and applies ``hysteresis`` as they come in.

    An alarm begins when the mean of the last ``smooth`` windows reaches ``on``. It is raised once the mean has been at
    least ``off`` for ``min_s`` seconds, and ends when the mean has been below ``off`` for longer than ``merge_s``. The
    probability of a window is taken to hold at its middle: an alarm's times lie half of ``window_s`` before its end.
    """

    def __init__(self, hysteresis: Hysteresis, window_s: float, smooth: int = 2) -> None:
        if smooth < 1:
            raise ConfigError(f"an alarm needs the mean of at least 1 window, not {smooth}")
        self._hysteresis, self._half_s = hysteresis, window_s / 2
        self._recent: deque[float] = deque(maxlen=smooth)
        self._began_s: float | None = None
        self._last_high_s = self._peak = 0.0
        self.raised = False
        self.probability = 0.0
        """The smoothed probability, as of the last window."""

    @property
    def begun(self) -> bool:
        """Whether an alarm has begun, raised or not yet."""
        return self._began_s is not None

    def update(self, at_s: float, p: float) -> AlarmEvent | None:
        """Add the probability ``p`` of the window that ends at ``at_s`` seconds. Times must not go back."""
        self._recent.append(p)
        self.probability = sum(self._recent) / len(self._recent)
        limits = self._hysteresis
        if self.probability >= (limits.on if self._began_s is None else limits.off):
            if self._began_s is None:
                self._began_s, self._peak = at_s, 0.0
            self._last_high_s, self._peak = at_s, max(self._peak, self.probability)
            if not self.raised and at_s - self._began_s >= limits.min_s - 1e-9:
                self.raised = True
                return self._event("raised", at_s)
            return None
        if self._began_s is None:
            return None
        if self.raised and at_s - self._last_high_s <= limits.merge_s + 1e-9:
            return None
        return self.finish(at_s)

    def finish(self, at_s: float) -> AlarmEvent | None:
        """End the current alarm, if there is one: the probability fell, or the source ended."""
        event = self._event("ended", at_s) if self.raised else None
        self.raised, self._began_s = False, None
        return event

    def _event(self, kind: Literal["raised", "ended"], at_s: float) -> AlarmEvent:
        began_s = at_s if self._began_s is None else self._began_s
        start_s, end_s = max(0.0, began_s - self._half_s), max(0.0, self._last_high_s - self._half_s)
        return AlarmEvent(kind, at_s, start_s, end_s, self._peak)
