"""The edge of a program: what the command line, the pipelines, the components and the services do alike.

Errors end in one line on stderr without secrets, texts that the terminal cannot show do not end the program, and a
reader that went away (``| head``) ends it quietly.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from posewatch.cores import limit_threads
from posewatch.faults import explained
from posewatch.redact import redact, redact_logs, remember, trace

INTERRUPTED, READER_GONE = 130, 141
"""Exit codes after Ctrl-C, and when the reader of stdout closed it; both are the shell's own."""
ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a program after it has tidied up: a deleted pod, an aborted run, a closed terminal."""
ERROR_FILE = "POSEWATCH_ERROR_FILE"
"""Names a file that a step of a pipeline writes its error to, for the program that started the step."""


class Terminated(SystemExit):
    """A signal of ``ENDING`` has come; the code is the shell's own, 128 and the signal's number."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Inside, the signals of ``ENDING`` raise Terminated, so that ``finally`` blocks run (main thread only)."""
    heeded = _heed()
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, signal.SIG_DFL)


def _heed() -> list[signal.Signals]:
    """Raise Terminated at a signal; returns those that did not before. One that is ignored (nohup) stays so."""

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends the program at once
        raise Terminated(128 + number)

    heeded = []
    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        for number in ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, leave)
                heeded.append(number)
    return heeded


def begin(*arguments: str) -> None:
    """Call this first, with the command line's arguments: the secrets in them are shown from now on by nobody."""
    limit_threads()
    remember(*arguments)
    redact_logs()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    threading.excepthook = _thread_failed


def failed(error: BaseException, program: str, *, verbose: bool = False) -> int:
    """Say on stderr why a program ends, in one line, or with the whole trace; returns its exit code."""
    if stopped := _stopped(error):
        code, line = stopped, "stopped; finished work is saved"
    elif isinstance(error, BrokenPipeError) and error.filename is None:
        _drop_stdout()
        return READER_GONE
    else:
        code, line = explained(error).exit_code, line_of(error)
    tell(trace(error).rstrip("\n") if verbose else f"{program}: {line}")
    return code


def _stopped(error: BaseException) -> int:
    """The exit code where an error came of Ctrl-C or of a signal, else 0: in the middle of an import these leave half a
    module, for the next ``except``."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, Terminated):
        return int(error.code or 1)
    return _stopped(error.__context__) if error.__context__ is not None else 0


def line_of(error: BaseException) -> str:
    """What an error says, in one line without secrets."""
    return " ".join(redact(str(explained(error))).split())


def tell(line: str) -> None:
    """A line on stderr; nothing happens where stderr is closed."""
    from posewatch import progress

    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        progress.say(line)


def written(text: str = "") -> None:
    """Write ``text`` to stdout at once. Raises OSError for a full disk, BrokenPipeError for a reader that went away."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_stdout()
        raise OSError(error.errno, error.strerror, "stdout") from None


def guarded(program: str, main: Callable[[], int | None], *arguments: str) -> int:
    """The exit code of ``main()``; whatever it raises becomes one line on stderr."""
    begin(*arguments)
    try:
        with terminable():
            code = main() or 0
            written()
    except (Exception, KeyboardInterrupt, Terminated) as error:
        code = failed(error, program)
    return code


def errors_in_one_line(program: str = "posewatch") -> None:
    """From now on an error that nobody catches ends this process with one line and its exit code: for a step of a
    pipeline, whose main program is the engine's. SIGTERM ends it, too, after ``finally`` blocks have run."""
    begin(*sys.argv)
    _heed()

    def hook(kind: type[BaseException], error: BaseException, tb: Any) -> None:
        code = failed(error, program)
        if told := os.environ.get(ERROR_FILE):
            with contextlib.suppress(OSError), open(told, "w", encoding="utf-8") as file:
                json.dump({"code": code, "line": line_of(error)}, file)
        raise SystemExit(code)

    sys.excepthook = hook


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        tell(f"posewatch: {line_of(args.exc_value)}")


def _drop_stdout() -> None:
    """Let what is still buffered for a closed or full stdout vanish, else Python complains at its exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)
