"""Alarms on their way to a webhook: on disk until the other side has taken them.

A message is a file of its own, complete from the moment it is there; it is deleted when the receiver answers 2xx. What
was not delivered when a process ended, or was killed, is delivered by the next one on the same folder. A receiver may
see a message twice (it answered, and the answer was lost): ``Idempotency-Key`` tells.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import random
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from posewatch.errors import InputError
from posewatch.watch.sinks.webhook import SIGNATURE, TIMEOUT_S, _reason, sign

FIRST_S, MOST_S = 0.5, 60.0
"""Pause after the first failed delivery, and the longest one; each is twice the one before, times 0.5 to 1."""


class Outbox:
    """Delivers messages to ``url`` in their order, from a thread, as long as it is entered.

    ``secret`` signs them (``verify`` is the receiver's side). A receiver that answers 4xx, except 408 and 429, does
    not want a message: it goes to ``refused/`` so that it holds up no other. One process at a time may use a folder.
    Raises InputError for an address that is not http(s), or a folder that another process uses.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        secret: str = "",
        *,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise InputError(f"a webhook is an address such as https://host/path, not {url!r}")
        self.folder, self.url, self._secret, self._say = folder, url, secret.encode(), say
        self._end, self._news = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._deliver_all, daemon=True)
        self._lock: Any = None
        self.delivered = self.failures = 0

    def __enter__(self) -> Outbox:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise InputError(f"{self.folder} is in use by another watcher: give each its own --out") from None
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._news.set()
        self._thread.join(TIMEOUT_S + 5)
        self._lock.close()

    def put(self, key: str, message: Mapping[str, Any]) -> None:
        """Keep a message for delivery; on disk when this returns. ``key`` names it, for the receiver too."""
        body = json.dumps({"key": key, "message": message}, ensure_ascii=False, sort_keys=True).encode()
        _keep(self.folder / f"{time.time_ns():020d}-{_safe(key)}.json", body)
        self._news.set()

    def waiting(self) -> list[Path]:
        """Messages that were not delivered yet, the oldest first."""
        return sorted(self.folder.glob("[0-9]*.json"))

    def drain(self, timeout_s: float) -> int:
        """Wait until all are delivered, ``timeout_s`` seconds at most; how many are left."""
        until = time.monotonic() + timeout_s
        while (left := len(self.waiting())) and time.monotonic() < until:
            time.sleep(0.05)
        return left

    def _deliver_all(self) -> None:
        pause = FIRST_S
        while not self._end.is_set():
            self._news.clear()
            for path in self.waiting():
                if self._end.is_set():
                    return
                try:
                    self._deliver(path)
                    pause = FIRST_S
                except (OSError, http.client.HTTPException, _Later) as error:
                    self.failures += 1
                    wait = pause * random.uniform(0.5, 1.0)
                    self._say(f"webhook {urlsplit(self.url).hostname}: {_reason(error)}; again in {wait:.1f} s")
                    self._end.wait(wait)
                    pause = min(MOST_S, 2 * pause)
                    self._news.set()
                    break
            self._news.wait()

    def _deliver(self, path: Path) -> None:
        try:
            kept = json.loads(path.read_bytes())
            key, message = kept["key"], kept["message"]
        except (ValueError, KeyError, TypeError):
            self._refuse(path, "it cannot be read")
            return
        body = json.dumps(message, ensure_ascii=False, sort_keys=True).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "posewatch"}
        if self._secret:
            headers[SIGNATURE] = sign(body, self._secret, int(time.time()))
        request = urllib.request.Request(self.url, body, headers)  # only http(s), see above
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (408, 429) or error.code >= 500 or error.code < 400:
                raise _Later(f"answered {error.code}") from None
            self._refuse(path, f"the receiver answered {error.code}")
            return
        self.delivered += 1  # before the file is gone, which is what ``drain`` waits for
        path.unlink()

    def _refuse(self, path: Path, reason: str) -> None:
        (self.folder / "refused").mkdir(exist_ok=True)
        os.replace(path, self.folder / "refused" / path.name)
        self._say(f"webhook: {reason}; kept as {self.folder / 'refused' / path.name}")


def _keep(path: Path, data: bytes) -> None:
    """Complete and on the disk itself, or not there at all."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class _Later(Exception):
    """Worth another try."""


def _safe(key: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in key)[:80]
