"""Silence for C code that writes to the terminal below Python, in the middle of progress bars."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(*descriptors: int) -> Iterator[None]:
    """Within the block, what is written to these file descriptors (1: stdout, 2: stderr) is dropped."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved, sink = {fd: os.dup(fd) for fd in descriptors}, os.open(os.devnull, os.O_WRONLY)
    try:
        for fd in saved:
            os.dup2(sink, fd)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # buffered output would appear later
        for fd, before in saved.items():
            os.dup2(before, fd)
            os.close(before)
        os.close(sink)
