"""Pods that serve one published version by the KServe v2 protocol over HTTP and gRPC: a small server in this process,
which answers by ONNX Runtime, or the real Triton."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np
import onnxruntime as ort
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from posewatch.artifact import get
from posewatch.stack import TritonServer
from posewatch.store import ObjectStore

HTTP, GRPC = 8080, 9000
"""Ports of a pod, as the ServingRuntime names them."""


class Server(Protocol):
    """What runs in a pod: ``ports`` maps a pod's port to the real one on loopback."""

    ports: dict[int, int]

    def stop(self) -> None: ...


class SmallServer:
    """The v2 protocol for one model repository: ready, config and infer. On ``stop`` it ends as Triton does on SIGTERM:
    no new connection, requests in flight are answered, and gRPC tells its clients to go (GOAWAY)."""

    def __init__(self, repository: Path, name: str) -> None:
        self.name = name
        self.config = text_format.Parse(
            (repository / name / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(str(repository / name / "1" / "model.onnx"), options)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Http,), {"pod": self}))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self._grpc = grpc.server(ThreadPoolExecutor(16))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Grpc(self), self._grpc)
        self.ports = {HTTP: self._http.server_address[1], GRPC: self._grpc.add_insecure_port("127.0.0.1:0")}
        self._grpc.start()

    def run(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, inputs), strict=True))

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


class _Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pod: SmallServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        model = f"/v2/models/{self.pod.name}"
        if self.path == "/v2":
            self._answer(200, json.dumps({"name": "small", "version": "0"}).encode())
        elif self.path in ("/v2/health/ready", "/v2/health/live", f"{model}/ready"):
            self._answer(200, b"")
        elif self.path == f"{model}/config":
            fields = json_format.MessageToDict(self.pod.config, preserving_proto_field_name=True)
            self._answer(200, json.dumps(fields).encode())
        else:
            self._answer(404, b'{"error":"not found"}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/v2/repository/index":
            return self._answer(200, json.dumps([{"name": self.pod.name, "state": "READY"}]).encode())
        size = int(self.headers["Inference-Header-Content-Length"])
        (tensor,) = json.loads(body[:size])["inputs"]
        array = np.frombuffer(body[size:], np.float32).reshape(tensor["shape"])
        outputs = self.pod.run({tensor["name"]: array})
        rows = [
            {
                "name": k, "datatype": "FP32", "shape": list(v.shape), "parameters": {"binary_data_size": v.nbytes},
            }
            for k, v in outputs.items()
        ]  # fmt: skip
        head = json.dumps({"model_name": self.pod.name, "model_version": "1", "outputs": rows}).encode()
        data = head + b"".join(np.ascontiguousarray(v).tobytes() for v in outputs.values())
        return self._answer(200, data, {"Inference-Header-Content-Length": str(len(head))})

    def _answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


class _Grpc(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, pod: SmallServer) -> None:
        self.pod = pod

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name="small", version="0")

    def ServerReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=True)

    def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=request.name == self.pod.name)

    def ModelConfig(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelConfigResponse(config=self.pod.config)

    def RepositoryIndex(self, request: Any, context: Any) -> Any:
        row = service_pb2.RepositoryIndexResponse.ModelIndex(name=self.pod.name, state="READY")
        return service_pb2.RepositoryIndexResponse(models=[row])

    def ModelInfer(self, request: Any, context: Any) -> Any:
        array = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(tuple(request.inputs[0].shape))
        answer = service_pb2.ModelInferResponse(model_name=self.pod.name, model_version="1")
        for name, value in self.pod.run({request.inputs[0].name: array}).items():
            answer.outputs.add(name=name, datatype="FP32", shape=value.shape)
            answer.raw_output_contents.append(np.ascontiguousarray(value).tobytes())
        return answer
