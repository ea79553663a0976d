"""Networks at work on the frames of one video: in one thread of this process, or in several processes.

Frames are processed in shards of fixed length. The length does not depend on the number of workers, so neither does any
result.
"""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic, TypeVar

from posewatch.cores import part, take
from posewatch.errors import PosewatchError
from posewatch.video import Frame

S = TypeVar("S")
Item = TypeVar("Item")
R = TypeVar("R")

SHARD = 32
"""Frames of a shard, unless they are very large."""
_SHARD_BYTES = 128 << 20
_AHEAD = 2
"""Shards in progress per worker: the next one is begun while the tracker waits for the first."""

_state: Any = None
"""The state of this worker process."""


def shards(frames: Iterable[Frame], size: int = SHARD) -> Iterator[list[Frame]]:
    """Frames in lists of at most ``size``, fewer when they are large; the last may be shorter."""
    source = iter(frames)
    for first in source:
        count = max(1, min(size, _SHARD_BYTES // max(1, first.image.nbytes)))
        yield [first, *itertools.islice(source, count - 1)]


def _begin(build: Callable[[], Any], threads: int | None) -> None:
    global _state
    take(threads)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # must not outlive a parent that was killed
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _one_thread()
    try:
        _state = build()
    except Exception as error:  # the first call raises it: a failed initializer breaks the pool and gives no reason
        _state = error


def _one_thread() -> None:
    """OpenCV's own threads wait by spinning, and parallel work is one process per core."""
    import cv2

    cv2.setNumThreads(1)


def _call(function: Callable[[Any, Item], R], item: Item) -> R:
    if isinstance(_state, Exception):
        raise _state
    return function(_state, item)


class WorkerPool(Generic[S]):
    """``workers`` workers, each with a state of its own, which ``build`` returns: its networks. A context manager.

    One worker is a thread of this process. With several, ``build`` and all that is passed to ``map`` must be picklable.
    """

    def __init__(self, build: Callable[[], S], workers: int = 1) -> None:
        self._build, self.workers = build, max(1, workers)
        self._pools: list[Executor] = []
        self._state: S | None = None

    def __enter__(self) -> WorkerPool[S]:
        if self.workers == 1:
            _one_thread()
            self._state = self._build()
            self._pools = [ThreadPoolExecutor(1)]
        else:
            context = multiprocessing.get_context("spawn")
            begin = self._build, part(self.workers)
            self._pools = [
                ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=begin)
                for _ in range(self.workers)
            ]
        return self

    def map(self, function: Callable[[S, Item], R], items: Iterable[Item], ahead: int = _AHEAD) -> Iterator[R]:
        """``function(state, item)`` of each item, in order, with up to ``ahead`` items in progress per worker.

        Item i goes to worker i modulo ``workers``, and each worker takes its items in order.
        """
        waiting: deque[Future[R]] = deque()
        for number, item in enumerate(items):
            waiting.append(self._submit(number % self.workers, function, item))
            if len(waiting) >= ahead * self.workers:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())

    def _submit(self, worker: int, function: Callable[[Any, Item], R], item: Item) -> Future[R]:
        if self.workers == 1:
            return self._pools[worker].submit(function, self._state, item)
        return self._pools[worker].submit(_call, function, item)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for pool in self._pools:
            if kind is not None and isinstance(pool, ProcessPoolExecutor):
                for process in list((pool._processes or {}).values()):
                    process.kill()
            pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future[R]) -> R:
    """The future's result; a worker that was killed becomes a one-line error."""
    try:
        return future.result()
    except BrokenProcessPool:
        raise PosewatchError("a worker process was killed (out of memory? set POSEWATCH_WORKERS lower)") from None
