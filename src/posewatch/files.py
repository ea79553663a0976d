"""Atomic file writes: a file is complete or absent. And the folder for state that outlives a command."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posewatch.outputs import mark


@contextmanager
def atomic(path: Path | str, *, marked: bool = True) -> Iterator[Path]:
    """Yield a hidden path beside ``path`` to write to; it is renamed to ``path`` when the block ends without an error.

    An existing file stays as it is until then, and when the block fails. ``marked``: see ``outputs.mark``.
    """
    path = Path(path)
    # Nodes of one training may share a disk, and have the same process ids: each writes under a name of its own.
    writer = f"{os.environ.get('GROUP_RANK', '0')}-{os.getpid()}-{threading.get_ident()}"
    partial = path.with_name(f".{path.name}.{writer}.part")
    try:
        yield partial
        os.replace(partial, path)
        if marked:
            mark(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path | str, data: bytes | str) -> None:
    """Replace a file's content as a whole; text is written as UTF-8, bytes of a file name that are none are escaped."""
    with atomic(path) as partial:
        partial.write_bytes(data.encode(errors="backslashreplace") if isinstance(data, str) else data)


def umask() -> int:
    """The permissions that new files of this process lack."""
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("Umask:"))
    return int(line.split()[1], 8)


def home(given: Path | None = None) -> Path:
    """The folder for state that outlives a command: the one given, else POSEWATCH_HOME, else ``./.posewatch``."""
    return Path(given or os.environ.get("POSEWATCH_HOME") or ".posewatch").expanduser().absolute()
