"""Pods that serve one published version by the KServe v2 protocol over HTTP and gRPC: a small server in this process,
which answers by ONNX Runtime, or the real Triton."""

from __future__ import annotations

import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

import grpc
from tritonclient.grpc import service_pb2_grpc

from posewatch.artifact import get
from posewatch.stack import TritonServer
from posewatch.store import ObjectStore

from .chart import ROOT, load_script

FAKE = load_script(ROOT / "helm" / "fake_triton.py")
HTTP, GRPC = 8080, 9000
"""Ports of a pod, as the ServingRuntime names them."""


class Server(Protocol):
    """What runs in a pod: ``ports`` maps a pod's port to the real one on loopback."""

    ports: dict[int, int]

    def stop(self) -> None: ...


class SmallServer:
    """The small server of ``make test-cluster`` in this process. On ``stop`` it ends as Triton does on SIGTERM: no new
    connection, requests in flight are answered, and gRPC tells its clients to go (GOAWAY)."""

    def __init__(self, repository: Path, name: str) -> None:
        model = FAKE.Model(repository)
        assert model.name == name
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (FAKE.Http,), {"model": model}))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self._grpc = grpc.server(ThreadPoolExecutor(16))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(FAKE.Grpc(model), self._grpc)
        self.ports = {HTTP: self._http.server_address[1], GRPC: self._grpc.add_insecure_port("127.0.0.1:0")}
        self._grpc.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(2).wait()


class RealTriton:
    """Triton itself, loaded with one model repository."""

    def __init__(self, repository: Path, name: str) -> None:
        self.server = TritonServer.start(repository, log=repository.parent / "triton.log")
        from posewatch.inference.triton_admin import load_model

        load_model(self.server.grpc, name)
        self.ports = {HTTP: int(self.server.http.rpartition(":")[2]), GRPC: int(self.server.grpc.rpartition(":")[2])}

    def stop(self) -> None:
        self.server.stop()


class Pod:
    """One pod with one model: it downloads (its init container), loads for ``load_s`` seconds, then it is ready, or
    crashes with the message ``failed``."""

    def __init__(
        self, name: str, labels: dict[str, str], store: ObjectStore, uri: str, model: str, kind: type, load_s: float,
        failed: str = "",
    ) -> None:  # fmt: skip
        self.name, self.labels = name, labels
        self.downloaded = self.ready = False
        self.failed = failed
        self.gpus = 0
        self.server: Server | None = None
        self._folder = tempfile.TemporaryDirectory()
        self._stopped = threading.Event()
        self._worker = threading.Thread(target=self._start, args=(store, uri, model, kind, load_s), daemon=True)
        self._worker.start()

    def _start(self, store: ObjectStore, uri: str, model: str, kind: type, load_s: float) -> None:
        repository = Path(self._folder.name) / "models"
        get(store, uri).fetch_all(repository)
        self.downloaded = True
        if self._stopped.wait(load_s) or self.failed:
            return
        self.server = kind(repository, model)
        self.ready = True
        # Triton ends with the thread that started it
        self._stopped.wait()
        self.server.stop()

    def stop(self) -> None:
        """SIGTERM: out of the endpoints first, then the server ends."""
        self.ready = False
        time.sleep(0.1)
        self._stopped.set()
        self._worker.join(60)
        self._folder.cleanup()
