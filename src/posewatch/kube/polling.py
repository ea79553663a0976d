"""Waits until an object of the cluster is in a state."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from posewatch.kube.cluster import ClusterUnavailable
from posewatch.progress import Progress

T = TypeVar("T")


def poll(
    check: Callable[[], tuple[T | None, str]],
    timeout_s: float,
    every_s: float,
    timed_out: Callable[[str], Exception],
    *,
    what: str = "",
    progress: Progress | None = None,
) -> T:
    """The first result of ``check``, which gives (result or None, state) and is called every ``every_s`` seconds.

    ``progress`` shows each new state of ``what``. While the API server is unavailable, that is the state. Raises what
    ``check`` raises, and ``timed_out(state)`` after ``timeout_s`` seconds.
    """
    deadline, shown = time.monotonic() + timeout_s, ""
    while True:
        try:
            result, state = check()
        except ClusterUnavailable as error:
            result, state = None, str(error)
        if result is not None:
            return result
        if progress and state != shown:
            progress.say(f"{what}: {state}")
        shown = state
        left = deadline - time.monotonic()
        if left <= 0:
            raise timed_out(state)
        time.sleep(min(every_s, left))
