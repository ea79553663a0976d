"""A small server of the v2 protocol for `make test-cluster` where no GPU and no Triton image is: HTTP and gRPC, by ONNX
Runtime, for the one model of a repository.

It runs in a pod of KServe in the image `serving`, with Triton's own arguments, and ends as Triton does on SIGTERM: no
new connection, what runs is answered, gRPC tells its clients to go. It knows what posewatch asks a server, no more.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

VERSION = "0.0.0"


class Model:
    """The model of a repository: its config, and answers."""

    def __init__(self, repository: Path) -> None:
        (folder,) = [path.parent for path in repository.glob("*/config.pbtxt")]
        self.config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        self.name = folder.name
        (file,) = folder.glob("*/model.onnx")
        self._session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(self, keypoints: Any) -> dict[str, Any]:
        """Output arrays by their names."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, {self.config.input[0].name: keypoints}), strict=True))


class Http(BaseHTTPRequestHandler):
    """The HTTP side, with the binary tensors of Triton's clients."""

    protocol_version = "HTTP/1.1"
    model: Model

    def log_message(self, *_: Any) -> None:
        """Probes come every few seconds."""

    def do_GET(self) -> None:
        model = f"/v2/models/{self.model.name}"
        if self.path == "/v2":
            self._answer(200, json.dumps({"name": "fake", "version": VERSION}).encode())
        elif self.path in ("/v2/health/ready", "/v2/health/live", f"{model}/ready"):
            self._answer(200, b"")
        elif self.path == f"{model}/config":
            fields = json_format.MessageToDict(self.model.config, preserving_proto_field_name=True)
            self._answer(200, json.dumps(fields).encode())
        else:
            self._answer(404, b'{"error": "not found"}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/v2/repository/index":
            return self._answer(200, json.dumps([{"name": self.model.name, "state": "READY"}]).encode())
        if self.path != f"/v2/models/{self.model.name}/infer":
            return self._answer(404, b'{"error": "not found"}')
        size = int(self.headers["Inference-Header-Content-Length"])
        (tensor,) = json.loads(body[:size])["inputs"]
        found = self.model.run(np.frombuffer(body[size:], np.float32).reshape(tensor["shape"]))
        rows = [
            {"name": k, "datatype": "FP32", "shape": v.shape, "parameters": {"binary_data_size": v.nbytes}}
            for k, v in found.items()
        ]
        head = json.dumps({"model_name": self.model.name, "model_version": "1", "outputs": rows}).encode()
        data = head + b"".join(np.ascontiguousarray(v, np.float32).tobytes() for v in found.values())
        return self._answer(200, data, len(head))

    def _answer(self, code: int, body: bytes, head: int = 0) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/octet-stream" if head else "application/json")
        if head:
            self.send_header("Inference-Header-Content-Length", str(head))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Grpc(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The gRPC side."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def ServerLive(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name="fake", version=VERSION)

    def ServerReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=True)

    def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=request.name == self._model.name)

    def ModelConfig(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelConfigResponse(config=self._model.config)

    def RepositoryIndex(self, request: Any, context: Any) -> Any:
        row = service_pb2.RepositoryIndexResponse.ModelIndex(name=self._model.name, state="READY")
        return service_pb2.RepositoryIndexResponse(models=[row])

    def ModelInfer(self, request: Any, context: Any) -> Any:
        shape = list(request.inputs[0].shape)
        found = self._model.run(np.frombuffer(request.raw_input_contents[0], np.float32).reshape(shape))
        answer = service_pb2.ModelInferResponse(model_name=self._model.name, model_version="1")
        for name, value in found.items():
            answer.outputs.add(name=name, datatype="FP32", shape=value.shape)
            answer.raw_output_contents.append(np.ascontiguousarray(value, np.float32).tobytes())
        return answer


def main() -> None:
    """Serve until SIGTERM; arguments of Triton that mean nothing here are ignored."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--model-repository", type=Path, required=True)
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=8001)
    args, _ = parser.parse_known_args()
    model = Model(args.model_repository)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    http = ThreadingHTTPServer(("", args.http_port), type("Handler", (Http,), {"model": model}))
    server = grpc.server(ThreadPoolExecutor(16))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Grpc(model), server)
    server.add_insecure_port(f"[::]:{args.grpc_port}")
    server.start()
    threading.Thread(target=http.serve_forever, daemon=True).start()
    while not stop.wait(1.0):
        pass
    http.shutdown()
    server.stop(20).wait()


if __name__ == "__main__":
    main()
