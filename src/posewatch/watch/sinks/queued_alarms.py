"""Alarms for a receiver elsewhere: queued on disk, sent by ``delivery``."""

from __future__ import annotations

from typing import Any

from posewatch.watch.sinks.delivery import Delivery
from posewatch.watch.sinks.sink import Sink, SinkContext


class QueuedAlarms(Sink):
    """Queues each message; the delivery runs on when the source has ended."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    @classmethod
    def open(cls, context: SinkContext) -> QueuedAlarms | None:
        return cls(context.delivery) if context.delivery is not None else None

    def alarm(self, message: dict[str, Any]) -> None:
        self._delivery.put(f"{message['id']}-{message['event']}", message)
