"""Every error that posewatch raises on purpose, so that the CLI can print one line and choose the exit code.

    PosewatchError            1  anything below
    ├── InputError            2  a wrong input of the user: a file, an option, a value
    │   ├── VideoError           a video that cannot be read, or holds no picture
    │   ├── LabelError           a label, class or label file that does not fit
    │   │   └── LabelStoreDown       the label store's database gives no answer: the same act may succeed later
    │   ├── NotAllowed           a person without the identity or the role that is required
    │   └── ConfigError          an unknown key or a value out of range
    ├── StoreError            3  the object store
    │   ├── NotFound             no such object or artifact
    │   │   └── NoBucket             the bucket itself is missing
    │   ├── AccessDenied         wrong or missing credentials
    │   └── Unreachable          no answer after the retries
    ├── WeightsError          4  a weights file that is missing, or not the one that was published
    ├── StackError            5  the embedded servers: a port taken, a server that died
    ├── ServingError          6  an inference server that refuses, times out or answers wrongly
    ├── JobError              7  a training job on a cluster that failed
    └── MachineError          8  this machine: a full disk, too many open files, no memory

130 is Ctrl-C, 141 a reader that closed stdout (``| head``). Errors of the operating system become these in ``faults``.

A message names the thing and the remedy in one line: "no such video: a.mp4 (give a file, a folder or an s3:// URI)".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PosewatchError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the CLI exits with."""

    exit_code = 1


class InputError(PosewatchError):
    """A wrong input of the user."""

    exit_code = 2


class VideoError(InputError):
    """A video cannot be read, or holds no picture."""


class LabelError(InputError):
    """A label, a class or a label file does not fit."""


class LabelStoreDown(LabelError):
    """The label store's database gives no answer; the same act may succeed later."""


class NotAllowed(InputError):
    """A person lacks the identity or the role that is required."""


class ConfigError(InputError):
    """An unknown configuration key, or a value out of range."""


class StoreError(PosewatchError):
    """A request to the object store failed."""

    exit_code = 3


class NotFound(StoreError):
    """No such object or artifact."""


class NoBucket(NotFound):
    """The bucket itself is missing."""


class AccessDenied(StoreError):
    """The store refused the credentials."""


class Unreachable(StoreError):
    """The store gave no answer after the retries."""


class WeightsError(PosewatchError):
    """A weights file is missing or is not the one that was published."""

    exit_code = 4


class StackError(PosewatchError):
    """One of the embedded servers could not start, or died."""

    exit_code = 5


class ServingError(PosewatchError):
    """An inference server refused a request, timed out or answered wrongly."""

    exit_code = 6


class JobError(PosewatchError):
    """A training job on a cluster failed, or did not end in time."""

    exit_code = 7


class MachineError(PosewatchError):
    """The disk is full, too many files are open, or there is no memory left."""

    exit_code = 8


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none: the reason in a message of ours."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
