"""Many cameras in one container: ``posewatch watch-service --config cameras.yaml --port 9100``.

Each camera is a ``posewatch watch`` process of its own: one that crashes, or whose decoder hangs, takes no other with
it, and is started again. ``/metrics`` is for Prometheus, ``/healthz`` says that this process lives, ``/readyz`` that
every camera's process runs. SIGTERM ends all of them cleanly.
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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from posewatch.errors import ConfigError
from posewatch.watch.metrics import text

PAUSES_S = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Waits before a camera's process is started again; from the first on after a run of ``STEADY_S``."""
STEADY_S = 120.0
STOP_S = 20.0
_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_ADDRESS = "POSEWATCH_CAMERA_URL"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Camera:
    """``name`` (letters, digits, dashes) and ``url``, in which ``${NAME}`` stands for an environment variable.

    ``options`` are those of ``posewatch watch`` for this camera, over the common ones.
    """

    name: str
    url: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ServiceConfig:
    """The file: ``model`` (grpc://host:port/name, ...), ``cameras``, and what they have in common.

    ``out`` is a folder that outlives the container: alarms, their videos and the webhook's outbox are there. ``config``
    names an experiment, ``set`` overrides of it, ``options`` options of ``posewatch watch`` (on, min-s, ...).
    """

    model: str
    cameras: tuple[Camera, ...]
    out: str = "/var/lib/posewatch"
    webhook: str = ""
    privacy: str = "none"
    config: str = "default"
    set: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()


def read_config(path: Path) -> ServiceConfig:
    """Raises ConfigError, naming the key, for a file that is not a ServiceConfig."""
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(told, dict):
        raise ConfigError(f"{path} must hold model: and cameras:")
    known = {field.name for field in fields(ServiceConfig)}
    _known(path, told, known)
    if not isinstance(told.get("model"), str) or not told["model"]:
        raise ConfigError(f"{path}: model must be an address such as grpc://triton:8001/abnormal")
    cameras = tuple(_camera(path, camera) for camera in told.get("cameras") or ())
    names = [camera.name for camera in cameras]
    if not cameras or len(set(names)) != len(names):
        raise ConfigError(f"{path}: cameras must be a list of at least one, each with a name of its own")
    plain = {key: str(told[key]) for key in ("out", "webhook", "privacy", "config") if key in told}
    overrides = told.get("set") or ()
    if not isinstance(overrides, list | tuple):
        raise ConfigError(f"{path}: set must be a list such as [pose.estimator=movenet]")
    return ServiceConfig(
        told["model"], cameras, set=tuple(map(str, overrides)), options=_options(path, told.get("options")), **plain
    )


def _known(path: Path, told: Mapping[str, Any], known: Iterable[str]) -> None:
    unknown = sorted(set(told) - set(known))
    if unknown:
        raise ConfigError(f"{path}: unknown key {unknown[0]!r} (known: {', '.join(sorted(known))})")


def _camera(path: Path, told: Any) -> Camera:
    if not isinstance(told, dict) or not isinstance(told.get("name"), str) or not isinstance(told.get("url"), str):
        raise ConfigError(f"{path}: each camera needs a name and a url")
    _known(path, told, ("name", "url", "options"))
    if not _NAME.match(told["name"]):
        raise ConfigError(f"{path}: a camera's name is of small letters, digits and dashes, not {told['name']!r}")
    for variable in _VARIABLE.findall(told["url"]):
        if variable not in os.environ:
            raise ConfigError(f"{path}: camera {told['name']} needs the environment variable {variable}")
    return Camera(told["name"], told["url"], _options(path, told.get("options")))


def _options(path: Path, told: Any) -> tuple[tuple[str, str], ...]:
    if told is None:
        return ()
    if not isinstance(told, dict):
        raise ConfigError(f"{path}: options must map names to values, such as min-s: 1")
    # YAML reads the keys on and off as true and false
    spelled = {{True: "on", False: "off"}.get(name, str(name)): str(value) for name, value in told.items()}
    return tuple((name.replace("_", "-"), value) for name, value in spelled.items())


class Supervised:
    """One camera's process; ``restarts`` counts how often it was started again."""

    def __init__(self, camera: Camera, config: ServiceConfig) -> None:
        self.camera, self._config, self.restarts = camera, config, 0
        self.folder = Path(config.out) / camera.name
        self.process: subprocess.Popen[bytes] | None = None
        self._began, self._due, self._attempt = 0.0, 0.0, 0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def command(self) -> list[str]:
        """The address goes by the environment: a command line can be read by everybody on the machine."""
        config = self._config
        told = [sys.executable, "-m", "posewatch.cli", "watch", f"env:{_ADDRESS}", "--model", config.model]
        told += ["--name", self.camera.name, "--out", str(self.folder), "--status", str(self.folder / "status.json")]
        told += ["--config", config.config, "--privacy", config.privacy]
        for override in config.set:
            told += ["--set", override]
        if config.webhook:
            told += ["--webhook", config.webhook]
        for name, value in {**dict(config.options), **dict(self.camera.options)}.items():
            told += {"True": [f"--{name}"], "False": []}.get(value, [f"--{name}", value])
        return told

    def attend(self, now: float) -> None:
        """Start the process where it does not run and its pause is over."""
        if self.running or now < self._due:
            return
        if self.process is not None and self._due == 0.0:
            self._attempt = 0 if now - self._began >= STEADY_S else self._attempt + 1
            pause = PAUSES_S[min(self._attempt, len(PAUSES_S) - 1)]
            _LOG.warning(
                "camera %s: its process ended with %s; again in %g s", self.camera.name, self.process.returncode, pause
            )
            self._due = now + pause
            return
        self.restarts += self.process is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        url = _VARIABLE.sub(lambda match: os.environ[match[1]], self.camera.url)
        self.process = subprocess.Popen(self.command(), env={**os.environ, _ADDRESS: url})
        self._began, self._due = now, 0.0

    def status(self) -> dict[str, Any] | None:
        """What the process last said of itself."""
        try:
            found = json.loads((self.folder / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


class Service:
    """All cameras; ``run`` until ``stop``."""

    def __init__(self, config: ServiceConfig) -> None:
        self.cameras = [Supervised(camera, config) for camera in config.cameras]
        self.stop = threading.Event()

    def run(self) -> None:
        """Attend to all processes until ``stop`` is set, then end them: SIGTERM, and SIGKILL after ``STOP_S``."""
        try:
            while not self.stop.is_set():
                for supervised in self.cameras:
                    supervised.attend(time.monotonic())
                time.sleep(0.25)  # not stop.wait: the handler of a signal that sets it may come while that has its lock
        finally:
            running = [s.process for s in self.cameras if s.process is not None and s.running]
            for process in running:
                process.terminate()
            until = time.monotonic() + STOP_S
            for process in running:
                try:
                    process.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def ready(self) -> bool:
        """Whether every camera's process runs."""
        return all(supervised.running for supervised in self.cameras)

    def metrics(self) -> bytes:
        return text([(s.camera.name, s.running, s.restarts, s.status()) for s in self.cameras], time.time())


def serve(service: Service, port: int, address: str = "0.0.0.0") -> ThreadingHTTPServer:
    """Probes and metrics on ``port``, from a thread. Raises ConfigError when the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, code, kind = b"not found\n", 404, "text/plain"
            if self.path == "/metrics":
                body, code, kind = service.metrics(), 200, "text/plain; version=0.0.4; charset=utf-8"
            elif self.path == "/healthz":
                body, code = b"ok\n", 200
            elif self.path == "/readyz":
                body, code = (b"ok\n", 200) if service.ready() else (b"a camera's process does not run\n", 503)
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Probes come every few seconds: not worth a line."""

    try:
        server = ThreadingHTTPServer((address, port), Handler)
    except OSError as error:
        raise ConfigError(f"cannot listen on port {port}: {error.strerror} (choose another by --port)") from None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
