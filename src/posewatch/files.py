"""Files are written whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a hidden name beside ``path`` to write to; it takes the name ``path`` when the block ends without an error.

    What was at ``path`` is there until then, and stays there when the block fails.
    """
    path = Path(path)
    # Nodes of one training may share a disk, and have the same process ids: each writes under a name of its own.
    writer = f"{os.environ.get('GROUP_RANK', '0')}-{os.getpid()}-{threading.get_ident()}"
    partial = path.with_name(f".{path.name}.{writer}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path | str, data: bytes | str) -> None:
    """Replace a file's content as a whole; text is written as UTF-8."""
    with atomic(path) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)
