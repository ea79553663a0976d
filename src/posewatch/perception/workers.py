"""Networks at work on the frames of one video: in a thread of this process, or in several processes.

Frames come in shards of fixed length that do not depend on the number of workers, so neither does any result. A
worker keeps the frames of a shard between finding persons in them and cutting them out, so a video is decoded once.
"""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic, TypeVar

from posewatch.errors import PosewatchError
from posewatch.video import Frame

Tool = TypeVar("Tool")
R = TypeVar("R")

SHARD = 32
"""Frames of a shard, unless they are very large."""
_SHARD_BYTES = 128 << 20
_DEPTH = 2
"""Shards under way per worker: while one waits for its persons to be followed, the next is begun."""

_tool: Any = None
"""The worker process's own networks."""


def shards(frames: Iterable[Frame], most: int = SHARD) -> Iterator[list[Frame]]:
    """Frames in lists of at most ``most``, fewer when they are large; the last may be shorter."""
    source = iter(frames)
    for first in source:
        size = max(1, min(most, _SHARD_BYTES // max(1, first.image.nbytes)))
        yield [first, *itertools.islice(source, size - 1)]


def _begin(build: Callable[[], Any]) -> None:
    global _tool
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # must not outlive a parent that was killed
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _one_thread()
    _tool = build()


def _one_thread() -> None:
    """OpenCV's own threads wait by spinning, and parallel work is one process per core."""
    import cv2

    cv2.setNumThreads(1)


def _act(function: Callable[..., R], *arguments: Any) -> R:
    return function(_tool, *arguments)


class Crew(Generic[Tool]):
    """``workers`` copies of what ``build`` makes; a context manager. One worker is a thread of this process.

    ``build`` and what is submitted must be picklable when there is more than one worker.
    """

    def __init__(self, build: Callable[[], Tool], workers: int = 1) -> None:
        self._build, self.workers = build, max(1, workers)
        self._pools: list[Executor] = []
        self._own: Tool | None = None

    @property
    def depth(self) -> int:
        """Shards that may be under way at once."""
        return _DEPTH * self.workers

    def __enter__(self) -> Crew[Tool]:
        if self.workers == 1:
            _one_thread()
            self._own = self._build()
            self._pools = [ThreadPoolExecutor(1)]
        else:
            context = multiprocessing.get_context("spawn")
            self._pools = [
                ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(self._build,))
                for _ in range(self.workers)
            ]
        return self

    def submit(self, shard: int, function: Callable[..., R], *arguments: Any) -> Future[R]:
        """Let the worker of that shard do ``function(tool, *arguments)``."""
        pool = self._pools[shard % self.workers]
        if self.workers == 1:
            return pool.submit(function, self._own, *arguments)
        return pool.submit(_act, function, *arguments)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for pool in self._pools:
            if kind is not None and isinstance(pool, ProcessPoolExecutor):
                for process in list((pool._processes or {}).values()):
                    process.kill()
            pool.shutdown(wait=True, cancel_futures=True)


def result(future: Future[R]) -> R:
    """The future's result; a worker that was killed becomes a one-line error."""
    try:
        return future.result()
    except BrokenProcessPool:
        raise PosewatchError("a worker process was killed (out of memory? set POSEWATCH_WORKERS lower)") from None
