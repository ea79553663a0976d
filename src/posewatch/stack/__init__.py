"""The embedded stack: a real S3 server (SeaweedFS) and a real Triton on this machine's loopback interface.

``up`` starts both, detached, and records them under a home folder; ``down`` stops them; a server that died is started
again by the next ``up``, on the same data, ports and credentials.

    home/stack.json         ports, and the processes (id and start time)
    home/credentials.json   the generated access key and secret key, readable by its owner only
    home/s3/                the objects          home/models/   Triton's model repository
    home/logs/              the servers' logs
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from posewatch.errors import StackError
from posewatch.stack import seaweed
from posewatch.stack import triton as _triton
from posewatch.stack.process import Process, is_free, terminable, wait_until
from posewatch.stack.process import pick_ports as _pick_ports
from posewatch.stack.state import ServerStatus, StackInfo, StackStatus, State, home_folder, locked, log_file
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
]

_TRIES = 3
"""Fresh ports are tried this often when somebody else takes one between the look and the start."""
_PATIENCE_S = 20.0
"""A server that runs and gives no answer for so long hangs; on a busy machine one answer can take seconds."""


def env(info: StackInfo) -> dict[str, str]:
    """The environment variables by which the rest of posewatch finds the servers."""
    return {
        "POSEWATCH_STORE": info.store,
        "POSEWATCH_S3_ENDPOINT": info.s3_endpoint,
        "POSEWATCH_S3_ACCESS_KEY": info.access_key,
        "POSEWATCH_S3_SECRET_KEY": info.secret_key,
        "POSEWATCH_TRITON_GRPC": info.triton_grpc,
        "POSEWATCH_TRITON_HTTP": info.triton_http,
    }


def current(home: Path | None = None) -> StackInfo | None:
    """The stack that was brought up and not down, if any of its servers still runs; asks no server."""
    state = State.read(home_folder(home))
    if state is None or not any(process.alive for process in state.processes.values()):
        return None
    return state.info()


def status(home: Path | None = None) -> StackStatus:
    """What runs and answers, asked of the servers themselves."""
    folder = home_folder(home)
    state = State.read(folder)
    if state is None or not state.processes:
        return StackStatus(folder, (ServerStatus("s3", "down"), ServerStatus("triton", "down")))
    info = state.info()
    found = []
    for name, address, answering in (
        ("s3", info.s3_endpoint, lambda: seaweed.answers(info.s3_endpoint, info.access_key, info.secret_key)),
        ("triton", info.triton_grpc, lambda: _triton.answers(info.triton_http)),
    ):
        process = state.processes.get(name)
        alive = process is not None and process.alive
        word = "dead" if not alive else "up" if answering() else "not answering"
        found.append(ServerStatus(name, word, address, process.pid if process else None, log_file(folder, name)))
    return StackStatus(folder, tuple(found))


def up(home: Path | None = None, *, s3_port: int | None = None, triton_ports: Ports | None = None) -> StackInfo:
    """Start what is not running and return where it is; does nothing when all is up.

    Raises StackError when a given port is taken, when other ports are asked for while the stack is up, or with its
    last words when a server dies at its start. What this call started is stopped again when it does not finish.
    """
    folder = home_folder(home)
    with locked(folder), terminable():
        state = State.read(folder) or State.new(folder)
        before = dict(state.processes)
        _check_same(state, s3_port, triton_ports)
        try:
            _retrying(lambda: _up_s3(state, s3_port), given=s3_port is not None)
            _retrying(lambda: _up_triton(state, triton_ports), given=triton_ports is not None)
        except BaseException:
            for name, process in dict(state.processes).items():
                if before.get(name) != process:
                    _stop(state, name)
            raise
        return state.info()


def down(home: Path | None = None) -> None:
    """Stop the servers and wait until they are gone; data, models and credentials stay. Fine when nothing runs."""
    folder = home_folder(home)
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
    """The stack for the time of a ``with`` block; it is down afterwards, also after Ctrl-C and SIGTERM.

    A stack that was up before is used and left up.
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
        if _comes_round(process, lambda: seaweed.answers(state.info().s3_endpoint, *keys)):
            return
        _stop(state, "s3")
    kept = state.s3_ports and all(is_free(p) and is_free(p + 10000) for p in state.s3_ports)
    if not kept or port not in (None, state.s3_ports[0]):
        state.s3_ports = seaweed.choose_ports(port, _place(state.home))
    log = log_file(state.home, "s3")
    process = seaweed.launch(state.home / "s3", log, state.s3_ports, *keys)
    state.processes["s3"] = process
    state.write()
    seaweed.wait_writable(process, log, state.info().s3_endpoint, *keys)


def _up_triton(state: State, ports: Ports | None) -> None:
    process = state.processes.get("triton")
    if process and process.alive:
        if _comes_round(process, lambda: _triton.answers(state.info().triton_http)):
            return
        _stop(state, "triton")
    if ports is None:
        a, b, c = state.triton_ports or (0, 0, 0)
        if not all(map(is_free, (a, b, c))):
            a, b, c = _pick_ports(3, _place(state.home) + 100)
        chosen = (a, b, c)
    else:
        chosen = ports
    server = TritonServer.launch(state.home / "models", ports=chosen, log=log_file(state.home, "triton"), detached=True)
    state.triton_ports, state.processes["triton"] = chosen, server.process
    state.write()
    server.wait_ready()


def _comes_round(process: Process, answers: Callable[[], bool]) -> bool:
    return wait_until(lambda: not process.alive or answers(), _PATIENCE_S) and process.alive


def _retrying(start: Callable[[], None], *, given: bool) -> None:
    """Start a server; when a port that we chose ourselves was snatched, choose again."""
    for attempt in range(1, _TRIES + 1):
        try:
            start()
            return
        except StackError as error:
            snatched = any(word in str(error) for word in ("already in use", "bind: ", "cannot bind"))
            if given or not snatched or attempt == _TRIES:
                raise


def _stop(state: State, name: str) -> None:
    process = state.processes[name]
    if name == "s3":
        seaweed.stop(process, state.s3_ports)
    else:
        _triton.stop(process, state.info().triton_ports)
    del state.processes[name]
    state.write()


def _check_same(state: State, s3_port: int | None, triton_ports: Ports | None) -> None:
    for name, asked, has in (
        ("s3", s3_port, state.s3_ports[:1]),
        ("triton", triton_ports, state.triton_ports),
    ):
        process = state.processes.get(name)
        wanted = (asked,) if isinstance(asked, int) else asked
        if process and process.alive and wanted is not None and tuple(wanted) != tuple(has):
            raise StackError(
                f"the stack is up with {name} on port {has[0]}: run `posewatch down` before you choose another"
            )


def _place(home: Path) -> int:
    """Where the search for free ports begins: the same for the same home, different for different ones."""
    return int(hashlib.sha256(str(home).encode()).hexdigest()[:8], 16)
