"""Many cameras in one container: ``posewatch watch-service --config cameras.yaml --port 9100``.

Each camera is a ``posewatch watch`` process of its own, which is restarted when it ends: one that crashes, or whose
decoder hangs, affects no other, also where they share memory (``forked.py``). ``/metrics`` is for Prometheus,
``/healthz`` succeeds while this process lives, ``/readyz`` while it watches, and before the first model
(``readiness.py``). SIGTERM ends all processes cleanly.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

from posewatch.addresses import with_environment
from posewatch.config import load
from posewatch.errors import ConfigError
from posewatch.redact import remember
from posewatch.rules import Items, Like, OneOf
from posewatch.sections import Section, from_dict, read_yaml
from posewatch.watch.forked import Forked, Forks
from posewatch.watch.metrics import text
from posewatch.watch.readiness import WATCHED_S, Model

BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Waits before a camera's process is restarted; the last is repeated. After a run of ``STABLE_S`` they start anew."""
STABLE_S = 120.0
STOP_S = 20.0
"""How long the processes may take to end before they are killed."""
_ADDRESS, _RECEIVER, _FRIGATE = "POSEWATCH_CAMERA_URL", "POSEWATCH_ALARM_WEBHOOK", "POSEWATCH_FRIGATE_BROKER"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Camera(Section):
    """One camera: ``name`` (small letters, digits, dashes) and ``url``, where ``${NAME}`` is an environment variable.

    ``options`` are options of ``posewatch watch`` for this camera; they override the common ones. ``frigate`` is its
    name in Frigate: it is looked at while that sees a person there, and alarms become events of that camera.
    """

    name: Annotated[str, Like(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "a name of small letters, digits and dashes")]
    url: str
    frigate: Annotated[str, Like(r"[A-Za-z0-9_-]*", "a name of letters, digits, _ and -")] = ""
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "options", _option_names(self.options))
        remember(self.url)
        with_environment(self.url)  # a variable that is missing is told at once


@dataclass(frozen=True)
class ServiceConfig(Section):
    """The configuration file: ``model`` (grpc://host:port/name, ...), ``cameras``, and what they have in common.

    ``route`` is the file that says which cameras ask a canary (``posewatch watch --route``). ``store`` is the object
    store of records (with ``record: true`` among the options). ``out`` is a folder that outlives the container, for
    alarms, their videos and what waits for the webhook or the store. ``config`` names an experiment, ``set`` are
    overrides of it, ``options`` are options of ``posewatch watch`` (on, min-s, ...). ``frigate`` is the broker where
    Frigate publishes (mqtt://host/frigate), for the cameras that have a name in it. With ``share`` the processes are
    forked from one, and share the memory of programs and networks.
    """

    model: Annotated[str, Like(r"(?s).+", "an address such as grpc://triton:8001/abnormal")]
    cameras: Annotated[tuple[Camera, ...], Items(1, 1000)]
    out: str = "/var/lib/posewatch"
    route: str = ""
    webhook: str = ""
    store: str = ""
    frigate: str = ""
    privacy: Annotated[str, OneOf(("none", "blur", "skeleton"))] = "none"
    config: str = "default"
    set: tuple[str, ...] = ()
    share: bool = False
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "options", _option_names(self.options))
        names = [camera.name for camera in self.cameras]
        remember(self.frigate)
        with_environment(self.frigate)
        if len(names) != len(dict.fromkeys(names)):
            raise ConfigError("each camera needs a name of its own")


def read_config(path: Path) -> ServiceConfig:
    """Read the configuration file. Raises ConfigError naming the file and the key."""
    data = read_yaml(path)
    try:
        config = from_dict(ServiceConfig, data)
        load(config.config, config.set)  # else every camera's process would find it out for itself
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return config


def _option_names(options: Mapping[str, str]) -> dict[str, str]:
    """Options by their names on the command line: ``min-s`` for ``min_s``."""
    return {name.replace("_", "-"): value for name, value in options.items()}


class CameraProcess:
    """The process of one camera, forked with ``forks``; ``restarts`` counts how often it was started again."""

    def __init__(self, camera: Camera, config: ServiceConfig, forks: Forks | None = None) -> None:
        self.camera, self._config, self._forks, self.restarts = camera, config, forks, 0
        self._options = {**config.options, **camera.options}
        self._webhook = self._options.pop("webhook", config.webhook)
        self._frigate = self._options.pop("frigate", config.frigate) if camera.frigate else ""
        self.folder = Path(config.out) / camera.name
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self._started, self._restart_at, self._attempt = 0.0, 0.0, 0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def command(self) -> list[str]:
        """The command line. Addresses are in the environment: all users of the machine can read command lines."""
        return [sys.executable, "-m", "posewatch.cli", *self._words()]

    def _words(self) -> list[str]:
        config = self._config
        words = ["watch", f"env:{_ADDRESS}", "--model", config.model]
        words += ["--name", self.camera.name, "--out", str(self.folder), "--status", str(self.folder / "status.json")]
        words += ["--config", config.config, "--privacy", config.privacy]
        if config.store:
            words += ["--store", config.store]
        for override in config.set:
            words += ["--set", override]
        if config.route:
            words += ["--route", config.route]
        if self._frigate:
            words += ["--frigate", f"env:{_FRIGATE}"]
        if self._webhook:
            words += ["--webhook", f"env:{_RECEIVER}"]
        for name, value in self._options.items():
            words += {"true": [f"--{name}"], "false": []}.get(value.lower(), [f"--{name}", value])
        return words

    def keep_running(self, now: float) -> None:
        """Start the process when it does not run and its backoff is over; ``now`` in seconds of a monotonic clock."""
        if self.running or now < self._restart_at:
            return
        if self.process is not None and self._restart_at == 0.0:
            self._attempt = 0 if now - self._started >= STABLE_S else self._attempt + 1
            backoff = BACKOFF_S[min(self._attempt, len(BACKOFF_S) - 1)]
            _LOG.warning(
                "camera %s: its process ended with %s; restarting in %g s",
                self.camera.name, self.process.returncode, backoff,
            )  # fmt: skip
            self._restart_at = now + backoff
            return
        self.restarts += self.process is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        address = {_ADDRESS: with_environment(self.camera.url), _RECEIVER: self._named(self._webhook, "frigate+")}
        address[_FRIGATE] = self._named(self._frigate, "mqtt")
        if self._forks is None:
            self.process = subprocess.Popen(self.command(), env={**os.environ, **address})
        else:
            self.process = self._forks.start(self._words(), address, self.camera.name)
        self._started, self._restart_at = now, 0.0

    def _named(self, address: str, scheme: str) -> str:
        """An address for the process; one of this scheme says which camera of Frigate is meant."""
        address, camera = with_environment(address), self.camera.frigate
        if not camera or not address.lower().startswith(scheme) or re.search(r"[?&]camera=", address):
            return address
        return f"{address}{'&' if '?' in address else '?'}camera={camera}"

    def watched(self, now: float) -> bool:
        """Whether its pictures are watched; ``now`` in seconds since 1970."""
        status = self.status()
        return self.running and status is not None and status["camera"]["connected"] and now - status["at"] < WATCHED_S

    def status(self) -> dict[str, Any] | None:
        """The content of the process's status file; None while there is none."""
        try:
            status = json.loads((self.folder / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return status if isinstance(status, dict) else None


class Service:
    """The processes of all cameras."""

    def __init__(self, config: ServiceConfig) -> None:
        forks = Forks(config.config, config.set) if config.share else None
        self.cameras = [CameraProcess(camera, config, forks) for camera in config.cameras]
        self.model = Model(config.model, Path(config.out))
        self.stop = threading.Event()

    def run(self) -> None:
        """Keep all processes running until ``stop`` is set, then end them: SIGTERM, and SIGKILL after ``STOP_S``."""
        threading.Thread(target=self.model.follow, args=(self.stop,), daemon=True).start()
        if self.model.standby:
            _LOG.warning("the cameras wait until a model answers at %s", self.model.shown)
        try:
            while not self.stop.is_set():
                for camera in self.cameras if self.model.answered else ():
                    camera.keep_running(time.monotonic())
                time.sleep(0.25)  # not stop.wait, which holds a lock that a signal handler needs to set the event
        finally:
            running = [c.process for c in self.cameras if c.process is not None and c.running]
            for process in running:
                process.terminate()
            end = time.monotonic() + STOP_S
            for process in running:
                try:
                    process.wait(max(0.1, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def ready(self) -> tuple[bool, str]:
        """Whether it watches, or stands by for the first model; and what it does or lacks, in one line."""
        if self.model.standby:
            return True, f"standby: no model was served at {self.model.shown} yet"
        if self.model.silent:
            return False, f"the model at {self.model.shown} does not answer"
        if ended := [camera.camera.name for camera in self.cameras if not camera.running]:
            return False, f"the process of a camera does not run: {', '.join(ended)}"
        if not any(camera.watched(time.time()) for camera in self.cameras):
            return False, "no camera sends pictures"
        return True, "ok"

    def metrics(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return text([(c.camera.name, c.running, c.restarts, c.status()) for c in self.cameras], time.time())


def serve(service: Service, port: int, address: str = "0.0.0.0") -> ThreadingHTTPServer:
    """Serve probes and metrics on ``port`` from a thread. Raises ConfigError when the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, code, kind = b"not found\n", 404, "text/plain"
            if self.path == "/metrics":
                body, code, kind = service.metrics(), 200, "text/plain; version=0.0.4; charset=utf-8"
            elif self.path == "/healthz":
                body, code = b"ok\n", 200
            elif self.path == "/readyz":
                good, said = service.ready()
                body, code = f"{said}\n".encode(), 200 if good else 503
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Probes come every few seconds: they are not logged."""

    try:
        server = ThreadingHTTPServer((address, port), Handler)
    except OSError as error:
        raise ConfigError(f"cannot listen on port {port}: {error.strerror} (choose another by --port)") from None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
