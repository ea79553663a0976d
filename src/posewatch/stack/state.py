"""The state of the embedded stack between commands: ports, processes, credentials."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posewatch.errors import StackError
from posewatch.files import atomic
from posewatch.progress import say
from posewatch.stack import seaweed
from posewatch.stack.process import Process, exclusive
from posewatch.stack.triton import Ports


@dataclass(frozen=True)
class StackInfo:
    """Addresses and credentials of the servers. Ports are of 127.0.0.1; Triton's are HTTP, gRPC, metrics."""

    home: Path
    s3_ports: tuple[int, ...]
    triton_ports: Ports
    access_key: str
    secret_key: str = field(repr=False)

    @property
    def s3_port(self) -> int:
        return self.s3_ports[0]

    @property
    def s3_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def triton_http(self) -> str:
        return f"127.0.0.1:{self.triton_ports[0]}"

    @property
    def triton_grpc(self) -> str:
        return f"127.0.0.1:{self.triton_ports[1]}"

    @property
    def model_repository(self) -> Path:
        return self.home / "models"

    @property
    def store(self) -> str:
        return f"s3://{seaweed.BUCKET}"


@dataclass(frozen=True)
class ServerStatus:
    """One server. ``state`` is ``up``, ``not answering``, ``dead`` (it should run but does not) or ``down``."""

    name: str
    state: str
    address: str = ""
    pid: int | None = None
    log: Path | None = None

    def __str__(self) -> str:
        text = f"{self.name:8} {self.state:14} {self.address}"
        if self.pid and self.state != "dead":
            text += f"  pid {self.pid}"
        if self.state in ("dead", "not answering"):
            text += f"  log {self.log}; `posewatch up` starts it again"
        return text.rstrip()


@dataclass(frozen=True)
class StackStatus:
    """Both servers, as ``posewatch status`` prints them."""

    home: Path
    servers: tuple[ServerStatus, ...]

    def __str__(self) -> str:
        return "\n".join([*map(str, self.servers), f"home     {self.home}"])


class State:
    """Content of ``stack.json`` and ``credentials.json``, written after every change so that no server is lost."""

    def __init__(self, home: Path, keys: dict[str, str]) -> None:
        self.home, self.keys = home, keys
        self.s3_ports: tuple[int, ...] = ()
        self.triton_ports: tuple[int, ...] = ()
        self.processes: dict[str, Process] = {}

    @classmethod
    def new(cls, home: Path) -> State:
        path = home / "credentials.json"
        if _cut(path):
            _put_aside(path)
        if not path.exists():
            # the key is an identifier, the secret has 240 bits
            keys = {"access_key": f"pw{secrets.token_hex(9)}", "secret_key": secrets.token_hex(30)}
            _write(path, keys, 0o600)
        return cls(home, _read(path))

    @classmethod
    def read(cls, home: Path) -> State | None:
        path = home / "stack.json"
        if not path.exists():
            return None
        if _cut(path):
            if running := processes_of(home):
                raise StackError(f"{path} is damaged while its servers run: stop process {running[0]}, run this again")
            _put_aside(path)
            return None
        state = cls.new(home)
        data = _read(home / "stack.json")
        try:
            state.s3_ports, state.triton_ports = tuple(data["s3_ports"]), tuple(data["triton_ports"])
            state.processes = {name: Process(**process) for name, process in data["processes"].items()}
        except (KeyError, TypeError, AttributeError):
            raise StackError(f"{home / 'stack.json'} is damaged: stop its servers by hand and delete it") from None
        return state

    def write(self) -> None:
        processes = {name: {"pid": p.pid, "started": p.started} for name, p in self.processes.items()}
        data = {"s3_ports": self.s3_ports, "triton_ports": self.triton_ports, "processes": processes}
        _write(self.home / "stack.json", data, 0o644)

    def info(self) -> StackInfo:
        http, grpc, metrics = self.triton_ports or (0, 0, 0)
        keys = self.keys
        return StackInfo(
            self.home, self.s3_ports or (0,), (http, grpc, metrics), keys["access_key"], keys["secret_key"]
        )


def log_file(home: Path, name: str) -> Path:
    """Where the server ``name`` writes its log."""
    return home / "logs" / f"{name}.log"


def processes_of(home: Path) -> list[int]:
    """Ids of the processes whose command line names the home's data or model repository."""
    words = {f"-dir={home / 's3'}".encode(), f"--model-repository={home / 'models'}".encode()}
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if words & set(command.read_bytes().split(b"\0")):
                found.append(int(command.parent.name))
    return found


def _cut(path: Path) -> bool:
    """Whether a state file is there, but was cut by a power loss."""
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return True
    except OSError:
        pass
    return False


def _put_aside(path: Path) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    say(f"posewatch: note: {path} is damaged (cut by a power loss?): written anew, the old one is {aside.name}")
    path.replace(aside)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StackError(f"cannot read {path}: {error}") from None


def _write(path: Path, data: dict[str, Any], mode: int) -> None:
    with atomic(path) as partial:
        partial.touch(mode)  # the permissions first, then the content
        partial.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the lock of a home: one ``up`` or ``down`` at a time."""
    with contextlib.ExitStack() as stack:
        try:
            home.mkdir(parents=True, exist_ok=True)
            stack.enter_context(exclusive(home / "lock"))
        except OSError as error:
            raise StackError(
                f"cannot use {home}: {error.strerror} (choose another with POSEWATCH_HOME or --home)"
            ) from None
        yield
