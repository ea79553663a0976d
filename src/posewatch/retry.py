"""Retry with exponential backoff and jitter, for stores, servers and databases that may be unavailable for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def retry(
    call: Callable[[], T],
    passes: Callable[[BaseException], bool],
    *,
    attempts: int | None = None,
    timeout_s: float | None = None,
    first_s: float = 0.1,
    max_s: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
    log: Callable[[BaseException, int, float], None] | None = None,
) -> T:
    """What ``call()`` returns; it is called again while it raises an error that ``passes``. The last error is raised.

    It gives up after ``attempts`` calls, or when the next wait would end later than ``timeout_s`` after the first call.
    The wait before call n+1 is a random time up to ``first_s * 2**n`` seconds, at most ``max_s`` (full jitter, so that
    many clients do not come back at the same moment). ``log(error, n, wait_s)`` is called before that wait.
    """
    import tenacity

    def before_wait(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if log and error and state.next_action:
            log(error, state.attempt_number, state.next_action.sleep)

    stops: list[tenacity.stop.stop_base] = []
    if attempts is not None:
        stops.append(tenacity.stop_after_attempt(attempts))
    if timeout_s is not None:
        stops.append(tenacity.stop_before_delay(timeout_s))
    return tenacity.Retrying(
        sleep=sleep,
        before_sleep=before_wait,
        stop=tenacity.stop_any(*stops) if stops else tenacity.stop_never,
        wait=tenacity.wait_random_exponential(multiplier=first_s, max=max_s),
        retry=tenacity.retry_if_exception(passes),
        reraise=True,
    )(call)
