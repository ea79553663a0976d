"""Alarms for a receiver elsewhere: queued on disk, sent by ``delivery``."""

from __future__ import annotations

from typing import Any

from posewatch.watch.annotator import AlarmState
from posewatch.watch.sinks.delivery import Delivery
from posewatch.watch.sinks.sink import Sink, SinkContext
from posewatch.watch.sources import Frame
from posewatch.watch.tracked_people import Observation


class QueuedAlarms(Sink):
    """Queues each message, and tells whether the source is watched; the delivery runs on when it has ended."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery, self._watched = delivery, True

    @classmethod
    def open(cls, context: SinkContext) -> QueuedAlarms | None:
        return cls(context.delivery) if context.delivery is not None else None

    def alarm(self, message: dict[str, Any]) -> None:
        self._delivery.put(f"{message['id']}-{message['event']}", message)

    def frame(self, frame: Frame, people: Observation, state: AlarmState) -> None:
        self._say(True)

    def unwatched(self, time_s: float) -> None:
        self._say(True)

    def silent(self, time_s: float) -> None:
        self._say(False)

    def _say(self, watched: bool) -> None:
        if watched is not self._watched:
            self._watched = watched
            self._delivery.watched(watched)
