"""Server processes that outlive the command that starts them: start, find again later, stop; and their ports.

A process is identified by its id *and* its start time, so that a recycled id is never signalled. Linux only
(``/proc``), as the servers are.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from posewatch.errors import StackError

# Runs in the server's process: arrange to end with the starter (argv[1] is its id; 0: outlive it), then become the
# server. This needs a fresh interpreter, because code between fork and exec is not safe in a process with threads.
_LAUNCH = """
import ctypes, os, signal, sys
owner = int(sys.argv[1])
if owner:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != owner:
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class PortInUse(StackError):
    """A port is taken by another process, maybe since we looked."""


@dataclass(frozen=True)
class Process:
    """A process by its id and its start time (clock ticks since boot)."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether this process still runs; a zombie does not."""
        state, threads, started = _stat(self.pid)
        if started != self.started:
            return False
        # a zombie whose threads are not all gone is still ending, with its ports open
        if state not in "ZX" or threads > 1:
            return True
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)  # reap it if it is our child
        return False

    def stop(self, first: signal.Signals, timeout_s: float) -> bool:
        """Send ``first``, wait up to ``timeout_s`` seconds, then kill the whole group. True when it needed no kill."""
        if not self.alive:
            return True
        _signal_group(self.pid, first)
        ended = wait_until(lambda: not self.alive, timeout_s)
        if not ended:
            _signal_group(self.pid, signal.SIGKILL)
            wait_until(lambda: not self.alive, 30.0)
        return ended


def _stat(pid: int) -> tuple[str, int, int]:
    """State letter, number of threads and start time of a process; ("X", 0, -1) when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0, -1
    return fields[0], int(fields[17]), int(fields[19])


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def wait_until(done: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Poll ``done`` until it is true or ``seconds`` have passed; returns whether it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(every)
    return done()


def spawn(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, *, detached: bool) -> Process:
    """Start ``command`` in a session of its own, with output to ``log``; the previous log becomes ``*.previous``.

    A detached server outlives this process; any other is terminated when this process ends, however it ends. Raises
    StackError when the command cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(f"{log.name}.previous"))
    argv = [sys.executable, "-I", "-S", "-c", _LAUNCH, "0" if detached else str(os.getpid()), *command]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        # Ignored and blocked signals would be inherited: the server could not be stopped by them.
        pid = os.posix_spawn(
            sys.executable,
            argv,
            dict(os.environ if env is None else env),
            file_actions=actions,
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
        )
    except OSError as error:
        raise StackError(f"cannot start {Path(command[0]).name}: {error.strerror} (log: {log})") from None
    return Process(pid, _stat(pid)[2])


_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_TROUBLE = re.compile(r"error|fatal|panic|fail|bind|in use|^[EF]\d{4}", re.IGNORECASE)
_BIND_FAILED = re.compile(r"already in use|bind: |cannot bind")


def last_words(log: Path) -> str:
    """The last line of a log that reports an error, else its last line; at most 300 characters."""
    try:
        text = _ANSI.sub("", log.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return "it wrote no log"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    trouble = [line for line in lines[-40:] if _TROUBLE.search(line)]
    return (trouble or lines or ["it wrote nothing"])[-1][:300]


def start_error(server: str, process: Process, log: Path) -> StackError:
    """The error for a server that did not become ready; PortInUse when its log says that it could not bind a port."""
    words = last_words(log)
    what = "did not answer in time" if process.alive else "died at its start"
    kind = PortInUse if _BIND_FAILED.search(words) else StackError
    return kind(f"{server} {what}: {words} (log: {log})")


def is_free(port: int) -> bool:
    """Whether a server could listen on this TCP port of the loopback interface (and of all interfaces)."""
    if not 0 < port < 65536:
        return False
    for address in ("127.0.0.1", "0.0.0.0"):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((address, port))
            except OSError:
                return False
    return True


FIRST, LAST = 10000, 22767
"""Ports are picked here: they, and they plus 10000, are below those that Linux gives to outgoing connections."""


def port_seed(folder: Path) -> int:
    """Where the search for free ports begins: the same for the same folder, different for different ones."""
    return int(hashlib.sha256(str(folder).encode()).hexdigest()[:8], 16)


def pick_ports(count: int, seed: int, *, twin: bool = False) -> list[int]:
    """``count`` free loopback ports; ``seed`` decides where the search begins. With ``twin``, P + 10000 is free too.

    Raises StackError when there are not enough.
    """
    ports: list[int] = []
    for step in range(LAST - FIRST + 1):
        port = FIRST + (seed + step) % (LAST - FIRST + 1)
        if is_free(port) and (not twin or is_free(port + 10000)):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise StackError(f"no {count} free ports between {FIRST} and {LAST} on 127.0.0.1: stop some servers")


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; waits while another process, or another block, holds it."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
