"""Decoding ahead of the work on the frames and encoding behind it, each in a thread of its own.

FFmpeg releases the interpreter lock, so both overlap with inference on another core.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from posewatch.video.reading import Image
from posewatch.video.writing import Writer

T = TypeVar("T")


def ahead(items: Iterable[T], count: int = 8) -> Iterator[T]:
    """The same items, computed in a thread up to ``count`` in advance; an error of the thread is raised here."""
    ready: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(count)
    stop = threading.Event()

    def put(last: bool, item: T | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put((last, item), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(False, item):
                    return
        except BaseException as error:  # raised where the items are read
            put(True, error)
        else:
            put(True, None)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            last, item = ready.get()
            if not last:
                yield item  # type: ignore[misc]
            elif item is None:
                return
            else:
                raise item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()


class BackgroundWriter:
    """A ``Writer`` that encodes in a thread, with at most ``waiting`` images queued."""

    def __init__(self, writer: Writer, waiting: int = 16) -> None:
        self._writer, self._waiting = writer, waiting
        self._pool = ThreadPoolExecutor(1)
        self._open: deque[Future[None]] = deque()

    def __enter__(self) -> BackgroundWriter:
        self._writer.__enter__()
        return self

    def write(self, image: Image) -> None:
        """Queue one image, which must not be changed afterwards; raises the error of an earlier one."""
        self._open.append(self._pool.submit(self._writer.write, image))
        while len(self._open) > self._waiting:
            self._open.popleft().result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        late: BaseException | None = None
        for future in self._open:
            late = late or future.exception()
        self._pool.shutdown()
        if kind is None and late is not None:
            self._writer.__exit__(type(late), late, late.__traceback__)
            raise late
        self._writer.__exit__(kind, error, trace)
