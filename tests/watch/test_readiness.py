"""When a watcher is ready: standing by before the first model, and from then on only while it watches."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from posewatch.watch import readiness
from posewatch.watch.service import Camera, Service, ServiceConfig


class Server(ThreadingHTTPServer):
    """The part of the v2 protocol that tells whether a model is there."""

    served = False

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                there = outer.served and self.path == "/v2/models/abnormal/ready"
                self.send_response(200 if there else 400)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.shutdown()
    made.server_close()


def service(server: Server, out: Path) -> Service:
    model = f"http://127.0.0.1:{server.server_port}/abnormal"
    cameras = (Camera("door", "rtsp://127.0.0.1:9/x"), Camera("yard", "rtsp://127.0.0.1:9/y"))
    return Service(ServiceConfig(model, cameras, str(out)))


@pytest.fixture
def watching(server: Server, tmp_path: Path) -> Iterator[Service]:
    """A service whose model answers, and whose cameras have processes: one of them watches."""
    made = service(server, tmp_path)
    server.served = True
    made.model.ask()
    for camera in made.cameras:
        camera.process = subprocess.Popen(["sleep", "60"])
    status(made, "door", time.time())
    yield made
    for camera in made.cameras:
        assert camera.process is not None
        camera.process.kill()
        camera.process.wait()


def status(service: Service, name: str, at: float, *, connected: bool = True) -> None:
    (camera,) = [camera for camera in service.cameras if camera.camera.name == name]
    camera.folder.mkdir(exist_ok=True)
    (camera.folder / "status.json").write_text(json.dumps({"at": at, "camera": {"connected": connected}}))


def test_before_the_first_model_it_stands_by_and_starts_no_camera(server: Server, tmp_path: Path) -> None:
    made = service(server, tmp_path)
    runner = Thread(target=made.run)
    runner.start()
    try:
        for _ in range(5):
            ready, said = made.ready()
            assert ready, "it does not flap: nothing is started that would end again"
            assert said.startswith("standby: no model was served at http://127.0.0.1:")
            assert not any(camera.process for camera in made.cameras)
            time.sleep(0.1)
    finally:
        made.stop.set()
        runner.join(20)


def test_it_is_ready_while_it_watches(watching: Service) -> None:
    assert watching.ready() == (True, "ok"), "a camera that is off is told by an alert"
    status(watching, "door", time.time() - 2 * readiness.WATCHED_S)
    assert watching.ready() == (False, "no camera sends pictures")
    status(watching, "yard", time.time())
    assert watching.ready()[0]
    process = watching.cameras[0].process
    assert process is not None
    process.kill()
    process.wait()
    assert watching.ready() == (False, "the process of a camera does not run: door")


def test_a_model_that_goes_makes_it_unready_after_a_while_and_until_it_is_back(
    watching: Service, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.served = False
    watching.model.ask()
    assert watching.ready()[0], "a server that is replaced is away for a moment"
    monkeypatch.setattr(readiness, "SILENT_S", 0.0)
    ready, said = watching.ready()
    assert (ready, said.endswith("/abnormal does not answer")) == (False, True)
    again = service(server, tmp_path)
    again.model.ask()
    assert not again.ready()[0], "a pod that is started anew remembers that there was a model"
    monkeypatch.setattr(readiness, "SILENT_S", 30.0)
    server.served = True
    watching.model.ask()
    assert watching.ready()[0]
