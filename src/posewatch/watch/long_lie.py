"""The long lie: somebody fell, says an alarm about them, and did not get up again, says their skeleton.

The recogniser sees a few seconds at a time: for it, somebody who has been on the floor for a minute may be calm again.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from posewatch.watch.alarm import AlarmEvent
from posewatch.watch.states import Subject, Told
from posewatch.watch.tracked_people import Observation

UP_S = 1.0
"""Somebody who is upright for so long has got up."""
_LEAST = 0.5
"""Share of the frames in which somebody is seen that must show them lying."""
_VISIBLE, _JOINTS = 0.2, 5
"""Score from which a joint counts, and how many are needed for a posture."""
_FLAT, _STEEP = 60.0, 35.0
"""Degrees between the trunk and the vertical from which somebody lies, and up to which they may be upright."""
_LEGS = 0.6
"""Of the trunk's length: so far above the ankles are the hips of somebody upright, who does not sit on the floor."""


def posture(keypoints: NDArray[np.float32]) -> Literal["lying", "upright", ""]:
    """The posture of a COCO-17 skeleton (V, 3) in the picture; empty where it cannot be told.

    Somebody who lies with the feet or the head towards the camera may look upright.
    """
    seen = keypoints[:, 2] >= _VISIBLE
    if seen.sum() < _JOINTS or len(keypoints) != 17:
        return ""
    width, height = np.ptp(keypoints[seen, :2], axis=0)
    trunk = [keypoints[pair, :2].mean(0) for pair in ([5, 6], [11, 12]) if seen[pair].all()]
    if len(trunk) < 2:
        return "lying" if width > 1.5 * height else ""
    across, down = (trunk[1] - trunk[0]).tolist()
    length, angle = math.hypot(across, down), math.degrees(math.atan2(abs(across), down))
    if angle >= _FLAT or width > 1.5 * height:
        return "lying"
    ankles = keypoints[[15, 16]][seen[[15, 16]], 1]
    standing = not len(ankles) or ankles.max() - trunk[1][1] >= _LEGS * length
    return "upright" if angle <= _STEEP and height >= width and standing else ""


@dataclass
class _Down:
    """Somebody on the floor since ``since_s``; ``subject`` is the alarm about it once there is a reason for one."""

    since_s: float
    seen_s: float
    shown: int = 0
    """The number or track id that the picture shows."""
    lying: int = 0
    frames: int = 0
    up_s: float | None = None
    subject: Subject | None = None
    raised: AlarmEvent | None = None


@dataclass
class LongLie:
    """Tells who has been lying for ``after_s`` seconds since an alarm about them; 0: nobody.

    Going down belongs to an alarm that it precedes or follows by at most ``near_s`` seconds. Somebody who is not seen
    is taken to lie on, for ``hold_s`` seconds.
    """

    after_s: float
    near_s: float
    hold_s: float
    _down: dict[int, _Down] = field(default_factory=dict)
    _alarms: dict[int, tuple[float, float, str, float]] = field(default_factory=dict)
    """Of each person the last alarm: from, to, its id, its probability."""

    @property
    def down(self) -> Collection[int]:
        """The persons who lie after an alarm, or may do so."""
        return [person for person in self._down if person in self._alarms]

    @property
    def raised(self) -> list[Subject]:
        """Whom there is such an alarm about now."""
        return [d.subject for d in self._down.values() if d.raised is not None and d.subject is not None]

    def alarmed(self, persons: Collection[int], start_s: float, at_s: float, alarm: str, peak: float) -> None:
        """There is an alarm about these persons, from ``start_s`` on and still at ``at_s``."""
        for person in persons if self.after_s else ():
            self._alarms[person] = (start_s, at_s, alarm, peak)

    def see(self, observation: Observation, at_s: float) -> Told:
        """A frame at ``at_s`` seconds."""
        if not self.after_s:
            return
        keypoints = observation.detections.keypoints
        for i, person in enumerate(observation.persons):
            looks = posture(keypoints[i]) if keypoints is not None else ""
            if looks == "lying" and person not in self._down:
                self._down[person] = _Down(at_s, at_s)
            if person in self._down:
                self._down[person].shown = observation.ids[i]
                yield from self._look(person, self._down[person], looks, at_s)
        for person, down in list(self._down.items()):
            if at_s - down.seen_s > self.after_s + self.hold_s:
                yield from self._end(person, "lost", at_s)
            elif down.raised is None and at_s - down.since_s >= self.after_s:
                yield from self._raise(person, down, at_s)
        old = [person for person, alarm in self._alarms.items() if at_s - alarm[1] > self.after_s + self.near_s]
        for person in old:
            if person not in self._down:
                del self._alarms[person]

    def finish(self, at_s: float) -> Told:
        """The source ended at ``at_s``, or a gap of it begins."""
        for person in list(self._down):
            yield from self._end(person, "", at_s)
        self._alarms.clear()

    def _look(self, person: int, down: _Down, looks: str, at_s: float) -> Told:
        down.seen_s = at_s
        down.frames += 1
        down.lying += looks == "lying"
        if looks != "upright":
            down.up_s = None
        elif down.up_s is None:
            down.up_s = at_s
        if down.up_s is not None and at_s - down.up_s >= UP_S:
            yield from self._end(person, "got up", down.up_s)

    def _raise(self, person: int, down: _Down, at_s: float) -> Told:
        start_s, to_s, alarm, peak = self._alarms.get(person, (math.inf, -math.inf, "", 0.0))
        belongs = start_s - self.near_s <= down.since_s <= to_s + self.near_s
        if belongs and down.lying >= _LEAST * down.frames:
            down.raised = AlarmEvent("raised", at_s, down.since_s, at_s, peak)
            down.subject = Subject(person, (down.shown,), "long_lie", of=alarm, first=down.raised, times=1)
            yield down.subject, down.raised

    def _end(self, person: int, reason: str, at_s: float) -> Told:
        down = self._down.pop(person)
        if down.raised is not None and down.subject is not None:
            down.subject.reason = reason
            yield down.subject, AlarmEvent("ended", at_s, down.since_s, at_s, down.raised.peak)
