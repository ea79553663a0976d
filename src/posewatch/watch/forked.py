"""Processes of cameras that are forked from one that has everything loaded: what they do not change, they share.

That process, Python's fork server, imports what a camera needs and loads the pose network, and then only waits. A
camera's process is as much its own as one that was started anew: it crashes, hangs and is killed alone.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerProcess

PRELOAD = "posewatch.watch.preload"
"""The module that the fork server imports."""
EXPERIMENT = "POSEWATCH_PRELOAD"
"""Environment variable of the fork server: the experiment and its overrides, as JSON."""
_PR_SET_NAME, _PR_SET_PDEATHSIG = 15, 1


class Forked:
    """A process, as ``subprocess.Popen`` shows one."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


class Forks:
    """Starts ``python -m posewatch.cli`` by forking; ``experiment`` and ``overrides`` say which network is loaded."""

    def __init__(self, experiment: str, overrides: Sequence[str]) -> None:
        self._about = json.dumps([experiment, list(overrides)])
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([PRELOAD])

    def start(self, words: Sequence[str], environment: Mapping[str, str], name: str) -> Forked:
        """A process with these words on its command line, as far as it can tell, and more environment variables.

        They are sent to it, so that no other user of the machine can read an address in them.
        """
        given = list(words), dict(environment), name
        process = self._context.Process(target=_run, args=given, name=name, daemon=True)  # daemon: ended with this one
        os.environ[EXPERIMENT] = self._about  # the fork server may have to be started, also after it was killed
        try:
            process.start()
        finally:
            del os.environ[EXPERIMENT]
        return Forked(process)


def _run(words: list[str], environment: dict[str, str], name: str) -> None:
    """A camera's process. It ends when the fork server does, else nobody would know of it any more."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    libc.prctl(_PR_SET_NAME, f"watch {name}".encode())  # as `ps` shows it, in 15 letters
    os.environ.pop(EXPERIMENT, None)
    os.environ.update(environment)
    sys.argv = ["posewatch", *words]
    with suppress(KeyboardInterrupt):
        runpy.run_module("posewatch.cli", run_name="__main__", alter_sys=False)
