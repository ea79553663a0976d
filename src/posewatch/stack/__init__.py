"""The embedded stack: a real S3 server (SeaweedFS) and a real Triton on this machine's loopback interface.

``up`` starts both, detached, and records them under a home folder; ``down`` stops them. The next ``up`` starts a server
that died again, with the same data, ports and credentials.

    home/stack.json         ports, and the processes (id and start time)
    home/credentials.json   the generated access key and secret key, readable by its owner only
    home/s3/                the objects          home/models/   Triton's model repository
    home/logs/              the servers' logs
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from posewatch.boundary import terminable
from posewatch.errors import StackError
from posewatch.files import home as _home
from posewatch.retry import retry
from posewatch.stack import seaweed
from posewatch.stack import triton as _triton
from posewatch.stack.process import PortInUse, Process, is_free, pick_ports, port_seed, wait_until
from posewatch.stack.state import ServerStatus, StackInfo, StackStatus, State, locked, log_file
from posewatch.stack.triton import Ports, TritonServer

__all__ = [
    "ServerStatus",
    "StackInfo",
    "StackStatus",
    "TritonServer",
    "current",
    "down",
    "env",
    "running",
    "status",
    "up",
    "use",
]

_ATTEMPTS = 3
"""Sets of ports that are tried when another process takes one between our check and the server's start."""
_ANSWER_TIMEOUT_S = 20.0
"""A running server without an answer for so long hangs; on a busy machine one answer can take seconds."""


def env(info: StackInfo) -> dict[str, str]:
    """The environment variables that tell the rest of posewatch where the servers are."""
    return {
        "POSEWATCH_STORE": info.store,
        "POSEWATCH_S3_ENDPOINT": info.s3_endpoint,
        "POSEWATCH_S3_ACCESS_KEY": info.access_key,
        "POSEWATCH_S3_SECRET_KEY": info.secret_key,
        "POSEWATCH_TRITON_GRPC": info.triton_grpc,
        "POSEWATCH_TRITON_HTTP": info.triton_http,
    }


def current(home: Path | None = None) -> StackInfo | None:
    """The stack that is up, if any of its servers still runs. Looks at processes only, sends no request."""
    state = State.read(_home(home))
    if state is None or not any(process.alive for process in state.processes.values()):
        return None
    return state.info()


def use(home: Path | None = None) -> None:
    """Let a stack that is up be the default for whatever the environment leaves open."""
    if (info := current(home)) is not None:
        for key, value in env(info).items():
            os.environ.setdefault(key, value)


def status(home: Path | None = None) -> StackStatus:
    """Which servers run and answer requests."""
    folder = _home(home)
    state = State.read(folder)
    if state is None or not state.processes:
        return StackStatus(folder, (ServerStatus("s3", "down"), ServerStatus("triton", "down")))
    info = state.info()
    servers = []
    for name, address, answering in (
        ("s3", info.s3_endpoint, lambda: seaweed.answers(info.s3_endpoint, info.access_key, info.secret_key)),
        ("triton", info.triton_grpc, lambda: _triton.answers(info.triton_http)),
    ):
        process = state.processes.get(name)
        alive = process is not None and process.alive
        status = "dead" if not alive else "up" if answering() else "not answering"
        servers.append(ServerStatus(name, status, address, process.pid if process else None, log_file(folder, name)))
    return StackStatus(folder, tuple(servers))


def up(home: Path | None = None, *, s3_port: int | None = None, triton_ports: Ports | None = None) -> StackInfo:
    """Start the servers that do not run, and return their addresses.

    Raises StackError when a given port is taken, when the stack is up on other ports than the given ones, or when a
    server dies at its start (with the last line of its log). If it fails, the servers started by this call are stopped.
    """
    folder = _home(home)
    with locked(folder), terminable():
        state = State.read(folder) or State.new(folder)
        before = dict(state.processes)
        _check_same_ports(state, s3_port, triton_ports)
        try:
            _with_free_ports(lambda: _up_s3(state, s3_port), given=s3_port is not None)
            _with_free_ports(lambda: _up_triton(state, triton_ports), given=triton_ports is not None)
        except BaseException:
            for name, process in dict(state.processes).items():
                if before.get(name) != process:
                    _stop(state, name)
            raise
        return state.info()


def down(home: Path | None = None) -> None:
    """Stop the servers and wait for their end; data, models and credentials stay. Does nothing when nothing runs."""
    folder = _home(home)
    if not (folder / "stack.json").exists():
        return
    with locked(folder):
        state = State.read(folder)
        for name in ("triton", "s3"):
            if state and name in state.processes:
                _stop(state, name)


@contextlib.contextmanager
def running(
    home: Path | None = None, *, s3_port: int | None = None, triton_ports: Ports | None = None
) -> Iterator[StackInfo]:
    """The stack inside a ``with`` block; it is stopped afterwards, also after Ctrl-C and SIGTERM.

    A stack that was already up is used and left up.
    """
    with terminable():
        was_up = current(home) is not None
        try:
            yield up(home, s3_port=s3_port, triton_ports=triton_ports)
        finally:
            if not was_up:
                down(home)


def _up_s3(state: State, port: int | None) -> None:
    process = state.processes.get("s3")
    keys = (state.keys["access_key"], state.keys["secret_key"])
    if process and process.alive:
        if _answers_in_time(process, lambda: seaweed.answers(state.info().s3_endpoint, *keys)):
            return
        _stop(state, "s3")
    still_free = state.s3_ports and all(is_free(p) and is_free(p + 10000) for p in state.s3_ports)
    if not still_free or port not in (None, state.s3_ports[0]):
        state.s3_ports = seaweed.choose_ports(port, port_seed(state.home))
    log = log_file(state.home, "s3")
    process = seaweed.launch(state.home / "s3", log, state.s3_ports, *keys)
    state.processes["s3"] = process
    state.write()
    seaweed.wait_writable(process, log, state.info().s3_endpoint, *keys)


def _up_triton(state: State, ports: Ports | None) -> None:
    process = state.processes.get("triton")
    if process and process.alive:
        if _answers_in_time(process, lambda: _triton.answers(state.info().triton_http)):
            return
        _stop(state, "triton")
    if ports is None:
        http, grpc, metrics = state.triton_ports or (0, 0, 0)
        if not all(map(is_free, (http, grpc, metrics))):
            http, grpc, metrics = pick_ports(3, port_seed(state.home) + 100)
        ports = (http, grpc, metrics)
    server = TritonServer.launch(state.home / "models", ports=ports, log=log_file(state.home, "triton"), detached=True)
    state.triton_ports, state.processes["triton"] = ports, server.process
    state.write()
    server.wait_ready()


def _answers_in_time(process: Process, answers: Callable[[], bool]) -> bool:
    return wait_until(lambda: not process.alive or answers(), _ANSWER_TIMEOUT_S) and process.alive


def _with_free_ports(start: Callable[[], None], *, given: bool) -> None:
    """Start a server; when another process took a port that we chose (not a given one), choose again."""
    retry(start, lambda error: isinstance(error, PortInUse), attempts=1 if given else _ATTEMPTS, first_s=0)


def _stop(state: State, name: str) -> None:
    process = state.processes[name]
    if name == "s3":
        seaweed.stop(process, state.s3_ports)
    else:
        _triton.stop(process, state.info().triton_ports)
    del state.processes[name]
    state.write()


def _check_same_ports(state: State, s3_port: int | None, triton_ports: Ports | None) -> None:
    for name, given, used in (
        ("s3", None if s3_port is None else (s3_port,), state.s3_ports[:1]),
        ("triton", triton_ports, state.triton_ports),
    ):
        process = state.processes.get(name)
        if process and process.alive and given is not None and tuple(given) != used:
            raise StackError(
                f"the stack is up with {name} on port {used[0]}: run `posewatch down` before you choose another"
            )
