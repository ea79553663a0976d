"""Tracking of recorded video both ways: a person is also followed back from where the detector is sure."""

from __future__ import annotations

from collections.abc import Sequence

from posewatch.perception.tracking.tracker import Tracker
from posewatch.records import Detections


class BothWays:
    """Finds the persons among the detections of a video, part by part; ``start`` and ``hold`` as in ``Tracker``."""

    def __init__(self, start: float, hold: int) -> None:
        self._start, self._hold = start, hold
        self._forward = Tracker(start, hold)

    def persons(self, frames: Sequence[Detections], ahead: Sequence[Detections] = ()) -> list[Detections]:
        """The persons of the next ``frames``, in the order of the detections; ``ahead``: detections of frames that
        follow, from which persons are followed backwards.

        Weak detections remain only where they continue a confirmed track, in either direction.
        """
        forward = [_kept(self._forward, found) for found in frames]
        tracker = Tracker(self._start, self._hold)
        backward = [_kept(tracker, found) for found in reversed([*frames, *ahead])][::-1]
        return [
            found.pick(sorted(before | after))
            for found, before, after in zip(frames, forward, backward[: len(frames)], strict=True)
        ]


def _kept(tracker: Tracker, found: Detections) -> set[int]:
    return {i for _, i in tracker.update(found)}
