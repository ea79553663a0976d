"""A real Triton behind an ingress with TLS: gRPC and HTTP, a path before the model, a token."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import urllib3
from support import self_signed
from tiny_models import tiny_model

from posewatch.errors import InputError, ServingError
from posewatch.inference import triton_admin
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.open import open_predictor, parse_endpoint
from posewatch.inference.triton_client import connect
from posewatch.serving.repository import write_repository
from posewatch.stack.triton import TritonServer

TOKEN = "a-token-of-the-ingress"
PREFIX = "/serving/team"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.fixture(scope="module")
def triton(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("triton")
    write_repository(tiny, folder / "models", name="tiny")
    with TritonServer.start(folder / "models", log=folder / "log") as server:
        triton_admin.load_model(server.grpc, "tiny")
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def http(triton: TritonServer, certificate: tuple[Path, Path]) -> Iterator[str]:
    """An HTTPS ingress that wants the token and serves Triton below a path."""
    pool = urllib3.PoolManager()

    class Ingress(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, data, sent = 401, b'{"error": "no token"}', {}
            if self.headers.get("Authorization") == f"Bearer {TOKEN}" and self.path.startswith(PREFIX):
                head = {k: v for k, v in self.headers.items() if k.lower().startswith(("content", "inference"))}
                address = f"http://{triton.http}{self.path.removeprefix(PREFIX)}"
                answer = pool.request(self.command, address, body=body, headers=head)
                status, data = answer.status, answer.data
                sent = {k: v for k, v in answer.headers.items() if k.lower().startswith("inference")}
            self.send_response(status)
            for name, value in {**sent, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ingress)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}{PREFIX}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def grpcs(triton: TritonServer, certificate: tuple[Path, Path]) -> Iterator[str]:
    """A gRPC ingress that wants the token and passes every call on as it is."""
    channel = grpc.insecure_channel(triton.grpc)

    class Ingress(grpc.GenericRpcHandler):
        def service(self, call: Any) -> Any:
            allowed = dict(call.invocation_metadata).get("authorization") == f"Bearer {TOKEN}"

            def handle(request: bytes, context: Any) -> bytes:
                if not allowed:
                    context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
                try:
                    return bytes(channel.unary_unary(call.method)(request, timeout=context.time_remaining()))
                except grpc.RpcError as error:
                    context.abort(error.code(), error.details())
                    raise

            return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Ingress(),))
    pair = (certificate[0].read_bytes(), certificate[1].read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0)
    channel.close()


@pytest.fixture
def address(request: pytest.FixtureRequest, http: str, grpcs: str) -> str:
    return {"https": f"https://{http}/tiny", "grpcs": f"grpcs://{grpcs}/tiny"}[request.param]


both = pytest.mark.parametrize("address", ["https", "grpcs"], indirect=True)


@both
def test_answers_are_those_of_the_model(
    address: str, tiny: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    monkeypatch.setenv("POSEWATCH_TRITON_TOKEN", TOKEN)
    with open_predictor(address) as predictor:
        clips = np.random.default_rng(0).random((3, *predictor.shape), np.float32)
        got = predictor.predict(clips).probabilities
    np.testing.assert_allclose(got, OnnxPredictor(tiny).predict(clips).probabilities, atol=1e-6)


@both
def test_a_certificate_that_is_not_trusted(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(ServingError, match=r"its certificate is not trusted \(SSL_CERT_FILE names .*\)$") as caught:
        open_predictor(address)
    assert "tries" not in str(caught.value)


@both
@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_file_without_certificates_is_named(
    address: str, content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(InputError, match=r"SSL_CERT_FILE names .*ca\.pem, which holds no certificates"):
        open_predictor(address)


@both
def test_a_certificate_of_another_host(
    address: str, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    with pytest.raises(ServingError, match=r"its certificate is of another host$"):
        open_predictor(address.replace("127.0.0.1", "localhost"))


@pytest.mark.parametrize(
    ("protocol", "message"),
    [("grpc", r"it speaks without TLS \(write grpc:// or http://\)$"), ("http", "does it speak TLS")],
)
def test_a_server_without_tls(triton: TritonServer, protocol: str, message: str) -> None:
    with pytest.raises(ServingError, match=message):
        open_predictor(f"{protocol}s://{getattr(triton, protocol)}/tiny", retries=0)


@both
def test_a_token_that_is_missing(address: str, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    monkeypatch.delenv("POSEWATCH_TRITON_TOKEN", raising=False)
    with pytest.raises(ServingError, match=r"no token.*POSEWATCH_TRITON_TOKEN"):
        open_predictor(address)


def test_a_token_does_not_go_out_in_the_clear(triton: TritonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []

    class Ear(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(dict(self.headers))
            self.send_error(404)

        def log_message(self, *_: Any) -> None: ...

    monkeypatch.setenv("POSEWATCH_TRITON_TOKEN", TOKEN)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(ServingError):
        open_predictor(f"http://127.0.0.1:{server.server_port}/tiny", retries=0)
    server.shutdown()
    server.server_close()
    assert heard
    assert TOKEN not in str(heard)


@pytest.mark.parametrize(
    ("endpoint", "parts"),
    [
        ("https://models.example.com/abnormal", ("https", "models.example.com:443", "abnormal")),
        ("https://models.example.com:8443/abnormal", ("https", "models.example.com:8443", "abnormal")),
        ("https://kf.example.com/serving/team/abnormal", ("https", "kf.example.com:443/serving/team", "abnormal")),
        ("http://gate:80/serving/team/abnormal", ("http", "gate:80/serving/team", "abnormal")),
        ("grpcs://[::1]/abnormal", ("grpcs", "[::1]:443", "abnormal")),
        ("grpcs://[::1]:8443/abnormal", ("grpcs", "[::1]:8443", "abnormal")),
    ],
)
def test_addresses(endpoint: str, parts: tuple[str, str, str]) -> None:
    assert parse_endpoint(endpoint) == parts
    connect(parts[1], parts[0]).close()


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://models.example.com", "https:///abnormal", "grpcs://gate/team/abnormal", "grpc://gate:1/team/abnormal",
        "http://gate:80/v2/models/abnormal", "http://gate:80/abnormal/versions/3", "grpc+shms://gate:1/abnormal",
    ],
)  # fmt: skip
def test_addresses_that_are_none(endpoint: str) -> None:
    with pytest.raises(InputError, match="bad endpoint"):
        parse_endpoint(endpoint)
