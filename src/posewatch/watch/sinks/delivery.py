"""Sends the messages of an outbox to a receiver, in order, for as long as it takes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from posewatch.retry import retry
from posewatch.watch.sinks.outbox import Outbox

FIRST_S, MAX_S = 0.5, 60.0
"""Backoff after the first failed attempt, at most, and the longest one."""
_LOG = logging.getLogger(__name__)


class Refused(Exception):
    """The receiver does not want this message; sending it again is of no use."""


class Unavailable(Exception):
    """The receiver did not take the message this time."""


class Transport(Protocol):
    """Sends messages to one receiver. ``name`` is for messages; ``timeout_s`` bounds one attempt."""

    name: str
    timeout_s: float = 10.0

    def __init__(self, url: str, secret: str) -> None: ...

    def about(self, cameras: Sequence[str]) -> None:
        """The cameras whose alarms will come, by their names; called once, before the first message."""
        return

    def watched(self, on: bool) -> None:
        """Whether those cameras send pictures; called when that changes."""
        return

    def close(self) -> None:
        """Nothing more will be sent."""
        return

    def send(self, key: str, message: Mapping[str, Any]) -> None:
        """Returns when the receiver has taken the message. Raises Refused, or Unavailable (or an OSError).

        ``key`` is the same each time that a message is sent: the answer to a delivered message can be lost.
        """


class Delivery:
    """Delivers the messages of ``outbox`` by ``transport`` from a thread, until ``close``.

    A refused message moves to the outbox's ``refused`` folder and holds up no other. An unavailable receiver is tried
    again with backoff; the messages behind wait. ``delivered`` and ``failures`` count messages and failed attempts.
    """

    def __init__(self, outbox: Outbox, transport: Transport) -> None:
        self.outbox, self._transport = outbox, transport
        self._closing, self._news = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.delivered = self.failures = 0
        self._thread.start()

    def close(self) -> None:
        """Stop after the attempt that is under way; what is not delivered stays in the outbox."""
        self._closing.set()
        self._news.set()
        self._thread.join(self._transport.timeout_s + 5)
        self._transport.close()
        self.outbox.close()

    def watched(self, on: bool) -> None:
        """Tell the receiver whether the camera sends pictures."""
        self._transport.watched(on)

    def put(self, key: str, message: Mapping[str, Any]) -> None:
        """Queue a message; it is on disk when this returns. ``key`` names it for the receiver."""
        self.outbox.put(key, message)
        self._news.set()

    def drain(self, timeout_s: float) -> int:
        """Wait until all messages are delivered, at most ``timeout_s`` seconds; returns how many are left."""
        end = time.monotonic() + timeout_s
        while (left := len(self.outbox.messages())) and time.monotonic() < end:
            time.sleep(0.05)
        return left

    def _run(self) -> None:
        while not self._closing.is_set():
            self._news.clear()
            for path in self.outbox.messages():
                self._deliver(path)
            self._news.wait()

    def _deliver(self, path: Path) -> None:
        """Send one message, again and again while the receiver is unavailable; gives up on ``close``."""

        def attempt() -> None:
            if self._closing.is_set():
                return
            try:
                self._transport.send(*self.outbox.read(path))
            except (Refused, ValueError) as error:
                _LOG.warning("%s: %s; moved to %s", self._transport.name, error, self.outbox.refuse(path))
                return
            self.delivered += 1  # before the file is deleted, which ``drain`` waits for
            self.outbox.remove(path)

        retry(attempt, self._worth_another_attempt, first_s=FIRST_S, max_s=MAX_S, sleep=self._sleep)

    def _worth_another_attempt(self, error: BaseException) -> bool:
        if not isinstance(error, (Unavailable, OSError)):
            return False
        self.failures += 1
        _LOG.warning("%s: %s; trying again", self._transport.name, error)
        return True

    def _sleep(self, seconds: float) -> None:
        self._closing.wait(seconds)
