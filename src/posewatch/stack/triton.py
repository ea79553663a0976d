"""A real Triton server on the loopback interface, on a folder of models that are loaded on demand."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
from pathlib import Path
from types import TracebackType

from posewatch.stack.process import PortInUse, Process, is_free, pick_ports, port_seed, spawn, start_error, wait_until
from posewatch.stack.triton_install import ensure_triton

Ports = tuple[int, int, int]
"""HTTP, gRPC and metrics."""
START_S = 60.0
_EXIT_S = 5
_SHM = Path("/dev/shm")
_SHM_BYTES = 64 << 20
"""Memory that a model instance shares with the server; pages are used when needed. The default of 1 MB grows under
load, and a model process that reads while it grows is killed, sometimes together with the server."""


class TritonServer:
    """A running Triton; ``http``, ``grpc`` and ``metrics`` are its addresses as ``127.0.0.1:port``.

    Models are loaded explicitly (``posewatch.inference.triton_admin.load_model``). Use it as a context manager, or call
    ``stop``.
    """

    def __init__(self, process: Process, ports: Ports, repository: Path, log: Path) -> None:
        self.process, self.ports, self.repository, self.log = process, ports, repository, log
        self.http, self.grpc, self.metrics = (f"127.0.0.1:{port}" for port in ports)

    @classmethod
    def start(cls, repository: Path, *, log: Path, ports: Ports | None = None) -> TritonServer:
        """Start the server on ``repository`` (created when missing) and wait until it answers.

        It ends with the thread that started it, so with this process at the latest. Without ``ports`` free ones are
        chosen. Raises PortInUse naming a taken port, or StackError with the last line of the log of a server that died.
        """
        server = cls.launch(repository, log=log, ports=ports)
        try:
            server.wait_ready()
        except BaseException:
            server.stop()
            raise
        return server

    @classmethod
    def launch(
        cls, repository: Path, *, log: Path, ports: Ports | None = None, detached: bool = False
    ) -> TritonServer:  # fmt: skip
        """Like ``start``, without waiting. A ``detached`` server outlives this process."""
        install = ensure_triton()
        repository = repository.absolute()
        repository.mkdir(parents=True, exist_ok=True)
        given = ports is not None
        if ports is None:
            http_port, grpc_port, metrics_port = pick_ports(3, port_seed(repository))
            ports = (http_port, grpc_port, metrics_port)
        for name, port in zip(("HTTP", "gRPC", "metrics"), ports, strict=True):
            if given and not is_free(port):
                raise PortInUse(
                    f"port {port} (Triton {name}) is taken: stop what listens there, or choose another port"
                )
        command = [str(install.binary), f"--model-repository={repository}", f"--backend-directory={install.backends}"]
        for name, port in zip(("http", "grpc", "metrics"), ports, strict=True):
            command += [f"--{name}-address=127.0.0.1", f"--{name}-port={port}"]
        command += [
            "--model-control-mode=explicit",
            # config.pbtxt is complete; a guess by Triton could hide a mistake in it
            "--disable-auto-complete-config",
            # else one model that fails to load makes the whole server unready
            "--strict-readiness=false",
            "--allow-gpu-metrics=false",
            "--metrics-config=summary_latencies=true",
            f"--exit-timeout-secs={_EXIT_S}",
            f"--backend-config=python,shm-region-prefix-name={_shm_prefix(ports)}",
            f"--backend-config=python,shm-default-byte-size={_SHM_BYTES}",
        ]
        process = spawn(command, log, install.environment(), detached=detached)
        return cls(process, ports, repository, log)

    def wait_ready(self, timeout_s: float = START_S) -> None:
        """Wait until the server answers. Raises StackError with the last line of its log when it dies or times out."""
        if not (wait_until(lambda: self.answers() or not self.process.alive, timeout_s) and self.process.alive):
            raise start_error("Triton", self.process, self.log)

    def answers(self) -> bool:
        """Whether the server reports that it is live."""
        return answers(self.http)

    def stop(self) -> None:
        """Stop the server and what it left running."""
        stop(self.process, self.ports)

    def __enter__(self) -> TritonServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def answers(address: str) -> bool:
    """Whether the Triton at this HTTP address (host:port) reports that it is live."""
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", "/v2/health/live", headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def stop(process: Process, ports: Ports) -> None:
    """Stop a Triton process. A client with an open connection delays it by the exit timeout."""
    process.stop(signal.SIGTERM, _EXIT_S + 5.0)
    # A server that was killed or crashed leaves the processes of Python models and their shared memory behind.
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"\0{_shm_prefix(ports)}".encode() in command.read_bytes():
                os.kill(int(command.parent.name), signal.SIGKILL)
    for left in _SHM.glob(f"{_shm_prefix(ports)}*"):
        with contextlib.suppress(OSError):
            left.unlink()


def _shm_prefix(ports: Ports) -> str:
    return f"posewatch_{ports[0]}_"
