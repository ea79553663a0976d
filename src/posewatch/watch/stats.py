"""Counters and gauges of one watcher, for the status file and the metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from posewatch.units import SCENE

VERSIONS = 10
"""Versions of the model that are counted apart: each has series in a monitoring system, and a watcher runs for long."""


@dataclass
class VersionStats:
    """What one version of the model did: windows answered, seconds that it took and that were watched, alarms."""

    windows: int = 0
    answer_s: float = 0.0
    watched_s: float = 0.0
    alarms: int = 0

    def count_answer(self, answer_s: float, watched_s: float) -> None:
        """One more window, answered in ``answer_s`` seconds, that stands for ``watched_s`` seconds of the source."""
        self.windows += 1
        self.answer_s += answer_s
        self.watched_s += watched_s


@dataclass
class WatchStats:
    """What a watcher has done so far. The names are the keys of the status file.

    ``refused`` counts the windows that the model did not answer; ``behind_s`` is the age of a camera's last frame when
    it was done; ``persons`` and ``last_s`` (seconds of the source) belong to the last frame, ``probability`` (smoothed)
    and ``raised`` to the last window. ``histogram`` counts windows by probability, in tenths; ``versions`` has a row
    for each version of the model that answered.

    With a model of single persons (``unit``) a window of each person counts; ``asked`` and ``left_out_now`` are the
    persons of the last window who were asked about and who were not, ``left_out`` sums the latter over all windows.
    ``looked`` counts the frames that the pose network looked at: in the others nothing moved, or they lie between two.
    ``raised_alarms`` counts the alarms that are on. ``compared`` counts the windows whose novelty the model told, and
    ``strange`` those of them that are like nothing it knows. ``unwatched`` counts the frames of a camera that were not
    looked at when they came, because Frigate saw nobody.
    """

    frames: int = 0
    looked: int = 0
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
    versions: dict[str, VersionStats] = field(default_factory=dict)
    unit: str = SCENE
    asked: int = 0
    left_out_now: int = 0
    left_out: int = 0
    raised_alarms: int = 0
    compared: int = 0
    strange: int = 0
    unwatched: int = 0

    def of_version(self, version: str) -> VersionStats:
        """The row of a version, which stays until ``VERSIONS`` others have answered since."""
        name = version or "unknown"
        row = self.versions.pop(name, None) or VersionStats()
        self.versions[name] = row
        if len(self.versions) > VERSIONS:
            del self.versions[next(iter(self.versions))]
        return row

    def count_window(self, p: float, novelty: float | None = None) -> None:
        """One more window, with probability ``p``."""
        self.compared += novelty is not None
        self.strange += novelty is not None and novelty > 1
        self.windows += 1
        self.histogram[min(9, int(p * 10))] += 1
        self.probability_sum += p
