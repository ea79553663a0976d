"""What may be written where: an output destroys no input, and no file that posewatch did not write.

Every file that posewatch completes is marked with its size and time in an extended attribute, so that it is known again
until somebody edits it. Where the disk has no such attributes, the mark is a small file in the cache.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from posewatch.errors import InputError
from posewatch.names import folded

RESULT = "result"
"""The kind of a video that shows what was found in another one: it is never taken for a recording."""
_ATTRIBUTE = "user.posewatch"
_UNSUPPORTED = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENOSPC, errno.E2BIG, errno.EINVAL)


def mark(path: Path, kind: str = "", *, becomes: Path | None = None) -> None:
    """Note that posewatch has written ``path`` as it is now; it will be renamed to ``becomes``."""
    with contextlib.suppress(OSError):
        value = f"{_state(path)}:{kind}"
        try:
            os.setxattr(path, _ATTRIBUTE, value.encode())
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            note = _note(becomes or path)
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(value)


def is_ours(path: Path) -> bool:
    """Whether posewatch has written the file, and nobody has changed it since; of a folder, all files in it."""
    if path.is_dir():
        return all(is_ours(file) for file in path.rglob("*") if not file.is_dir())
    return not path.is_symlink() and _mark(path) is not None


def is_result(path: Path) -> bool:
    """Whether posewatch has written the file from a recording (see ``RESULT``)."""
    return _mark(path) == RESULT


def _mark(path: Path) -> str | None:
    """The kind that an unchanged file is marked with; None for a file of somebody else."""
    with contextlib.suppress(OSError, ValueError):
        try:
            value = os.getxattr(path, _ATTRIBUTE).decode()
        except OSError:
            value = _note(path).read_text()
        state, _, kind = value.rpartition(":")
        return kind if state == _state(path) else None
    return None


def _state(path: Path) -> str:
    about = path.stat()
    return f"{about.st_size}:{about.st_mtime_ns}"


def _note(path: Path) -> Path:
    cache = Path(os.environ.get("POSEWATCH_CACHE") or Path.home() / ".cache" / "posewatch").expanduser()
    return cache / "written" / hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]


def check(outputs: Iterable[Path], inputs: Iterable[Path] = (), *, force: bool = False) -> None:
    """Refuse ``outputs`` that may not be written. Call this before anything is written.

    An input is never replaced, under no spelling of its name, neither through links nor by ``force``. A file that
    posewatch did not write, or that was changed since, is replaced with ``force`` only, and only outside of folders
    that are inputs. What is no file at all (a device, a pipe, a folder) is never replaced. Raises InputError, and
    OSError as ``check_place`` does.
    """
    given = [path for path in inputs if os.path.lexists(path)]
    seen: dict[str, Path] = {}
    for output in outputs:
        twin = seen.setdefault(folded(str(output.absolute())), output)
        if twin is not output and (twin == output or _same_on_disk(twin, output)):
            raise InputError(f"two results would both be {output}: run the command for each by itself")
        if not os.path.lexists(output):
            check_place(output)
            continue
        if any(not path.is_dir() and _same(path, output) for path in given):
            raise InputError(f"{output} is an input of this command, which would replace it: give another --out")
        if not (output.is_dir() or stat.S_ISREG(_mode(output))):
            raise InputError(f"{output} is no file that can be replaced: give another --out")
        if is_ours(output):
            continue
        if not force:
            raise InputError(
                f"{output} exists, and is not as posewatch wrote it: give another --out, or --force to replace it"
            )
        if any(path.is_dir() and output.resolve().is_relative_to(path.resolve()) for path in given):
            raise InputError(f"{output} is in a folder that is an input of this command: give another --out")


def _mode(path: Path) -> int:
    """The kind of a file; 0 for a link that leads nowhere, and for /dev/stdout, whatever it leads to."""
    if path.absolute().parent == Path("/dev"):
        return 0
    with contextlib.suppress(OSError):
        return path.stat().st_mode
    return 0


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one file: through links, hard links, or names that are one to this disk."""
    try:
        return one.samefile(other)
    except OSError:
        return one.absolute() == other.absolute()


def _same_on_disk(one: Path, other: Path) -> bool:
    """Whether the disk takes two names that differ in case or Unicode form for one."""
    folder = next(path for path in one.absolute().parents if path.exists())
    swapped = folder.with_name(folder.name.swapcase())
    return swapped != folder and swapped.exists() and _same(swapped, folder)


def check_place(path: Path, folder: bool = False) -> None:
    """Raise the OSError that writing the file (or the files of the folder) ``path`` would end in, before the work.

    Nothing is made. That the disk is full shows only when it is written.
    """
    if path.exists() and path.is_dir() != folder:
        raise OSError(errno.ENOTDIR if folder else errno.EISDIR, "", str(path))
    place = path.absolute()
    while not place.exists():
        if place.is_symlink() and (folder or place != path.absolute()):
            place.stat()  # raises: it leads nowhere, or in a circle
        place = place.parent
    if place != path.absolute() and not place.is_dir():
        raise OSError(errno.ENOTDIR, "", str(path))
    if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
        read_only = os.statvfs(place).f_flag & os.ST_RDONLY
        raise OSError(errno.EROFS if read_only else errno.EACCES, "", str(place))
