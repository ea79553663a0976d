"""Atomic file writes: a file is complete or absent. And the folder for state that outlives a command."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posewatch.outputs import mark

_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOTDIR)


@contextmanager
def atomic(path: Path | str, *, marked: bool = True) -> Iterator[Path]:
    """Yield a hidden path beside ``path`` to write to; it is renamed to ``path`` when the block ends without an error.
    The folder is made where it is missing.

    An existing file stays as it is until then, and when the block fails. ``marked``: see ``outputs.mark``.
    """
    path = Path(path)
    # Nodes of one training may share a disk, and have the same process ids: each writes under a name of its own.
    writer = f"{os.environ.get('GROUP_RANK', '0')}-{os.getpid()}-{threading.get_ident()}"
    name = path.name if len(os.fsencode(path.name)) < 180 else hashlib.sha256(os.fsencode(path.name)).hexdigest()
    partial = path.with_name(f".{name}.{writer}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        if marked:
            mark(partial, becomes=path)  # before it has its name: a run that is killed here can go on later
        os.replace(partial, path)
    except OSError as error:
        if error.errno not in _OF_DISK or error.filename not in (None, str(partial)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None  # told by the name that the user knows
    finally:
        with contextlib.suppress(OSError):  # else it would hide why the block failed
            partial.unlink(missing_ok=True)


def write_atomically(path: Path | str, data: bytes | str) -> None:
    """Replace a file's content as a whole; text is written as UTF-8, bytes of a file name that are none are escaped."""
    with atomic(path) as partial:
        partial.write_bytes(data.encode(errors="backslashreplace") if isinstance(data, str) else data)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file as a whole and wait until it, and its name, are on the disk: it survives a power cut."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def umask() -> int:
    """The permissions that new files of this process lack."""
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("Umask:"))
    return int(line.split()[1], 8)


def cache() -> Path:
    """The folder of downloads and installs: POSEWATCH_CACHE, else ``~/.cache/posewatch``; it may not exist yet."""
    return Path(os.environ.get("POSEWATCH_CACHE") or Path.home() / ".cache" / "posewatch").expanduser().absolute()


def home(given: Path | None = None) -> Path:
    """The folder for state that outlives a command: the one given, else POSEWATCH_HOME, else ``./.posewatch``."""
    return Path(given or os.environ.get("POSEWATCH_HOME") or ".posewatch").expanduser().absolute()
