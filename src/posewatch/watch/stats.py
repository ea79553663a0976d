"""Counters and gauges of one watcher, for the status file and the metrics."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class WatchStats:
    """What a watcher has done so far. The names are the keys of the status file.

    ``refused`` counts the windows that the model did not answer; ``behind_s`` is the age of a camera's last frame when
    it was done; ``persons`` and ``last_s`` (seconds of the source) belong to the last frame, ``probability`` (smoothed)
    and ``raised`` to the last window. ``histogram`` counts windows by probability, in tenths.
    """

    frames: int = 0
    windows: int = 0
    refused: int = 0
    alarms: int = 0
    behind_s: float = 0.0
    probability: float = 0.0
    raised: bool = False
    persons: int = 0
    last_s: float = 0.0
    histogram: list[int] = field(default_factory=lambda: [0] * 10)
    probability_sum: float = 0.0

    def count_window(self, p: float) -> None:
        """One more window, with probability ``p``."""
        self.windows += 1
        self.histogram[min(9, int(p * 10))] += 1
        self.probability_sum += p
