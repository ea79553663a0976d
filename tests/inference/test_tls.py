"""A real Triton behind an ingress with TLS: gRPC and HTTP, a path before the model, a token."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import urllib3
from support import self_signed
from tiny_models import SHAPE, tiny_model

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
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(key, certificate) of a client."""
    return self_signed(tmp_path_factory.mktemp("own"))


@contextmanager
def https_ingress(triton: TritonServer, certificate: tuple[Path, Path], clients: Path | None = None) -> Iterator[str]:
    """It wants the token and, with ``clients``, such a certificate, and serves Triton below a path."""
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
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}{PREFIX}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def grpc_ingress(triton: TritonServer, certificate: tuple[Path, Path], clients: Path | None = None) -> Iterator[str]:
    """It wants the token and, with ``clients``, such a certificate, and passes every call on as it is."""
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
    known = clients.read_bytes() if clients else None
    credentials = grpc.ssl_server_credentials([pair], known, require_client_auth=known is not None)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0)
        channel.close()


@pytest.fixture(scope="module")
def http(triton: TritonServer, certificate: tuple[Path, Path]) -> Iterator[str]:
    with https_ingress(triton, certificate) as address:
        yield address


@pytest.fixture(scope="module")
def grpcs(triton: TritonServer, certificate: tuple[Path, Path]) -> Iterator[str]:
    with grpc_ingress(triton, certificate) as address:
        yield address


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


@pytest.mark.parametrize("protocol", ["https", "grpcs"])
def test_a_server_that_wants_a_certificate_of_its_client(
    protocol: str, triton: TritonServer, certificate: tuple[Path, Path], own: tuple[Path, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    monkeypatch.setenv("POSEWATCH_TRITON_TOKEN", TOKEN)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    clips = np.zeros((2, *SHAPE), np.float32)
    with (https_ingress if protocol == "https" else grpc_ingress)(triton, certificate, own[1]) as place:
        with pytest.raises(ServingError, match=r"does it want a certificate of its client, POSEWATCH_TRITON_CERT\?"):
            open_predictor(f"{protocol}://{place}/tiny", retries=0)
        both_in_one = tmp_path / "own.pem"
        both_in_one.write_bytes(certificate[1].read_bytes() + certificate[0].read_bytes())  # of somebody else
        monkeypatch.setenv("POSEWATCH_TRITON_CERT", str(both_in_one))
        with pytest.raises(ServingError, match=r"another certificate of its client than POSEWATCH_TRITON_CERT\?"):
            open_predictor(f"{protocol}://{place}/tiny", retries=0)
        monkeypatch.setenv("POSEWATCH_TRITON_CERT", str(own[1]))
        monkeypatch.setenv("POSEWATCH_TRITON_KEY", str(own[0]))
        with open_predictor(f"{protocol}://{place}/tiny") as predictor:
            assert len(predictor.predict(clips).probabilities) == 2


@both
@pytest.mark.parametrize(
    ("cert", "key", "message"),
    [
        ("own", "", r"POSEWATCH_TRITON_CERT \(.*\) and POSEWATCH_TRITON_KEY \(.*\) are no certificate and its key"),
        ("own", "another", "are no certificate and its key"),
        ("own", "locked", "are no certificate and its key"),
        ("none", "", "are no certificate and its key"),
        ("", "own", "POSEWATCH_TRITON_KEY names a key without its certificate"),
    ],
)
def test_an_own_certificate_that_does_not_fit(
    address: str, cert: str, key: str, message: str, own: tuple[Path, Path], certificate: tuple[Path, Path],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkey", "-in", own[0], "-aes256", "-passout", "pass:x", "-out", locked]
    subprocess.run(command, check=True, capture_output=True)
    files = {"own": own[1], "none": tmp_path / "none.pem"}
    keys = {"own": own[0], "another": certificate[0], "locked": locked}
    monkeypatch.setenv("POSEWATCH_TRITON_CERT", str(files.get(cert, "")))
    monkeypatch.setenv("POSEWATCH_TRITON_KEY", str(keys.get(key, "")))
    with pytest.raises(InputError, match=message):
        open_predictor(address)


def test_a_certificate_that_was_renewed(
    triton: TritonServer, certificate: tuple[Path, Path], own: tuple[Path, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The one that the process began with runs out; gRPC would go on with it for ever."""
    file = tmp_path / "own.pem"
    file.write_bytes(certificate[1].read_bytes() + certificate[0].read_bytes())
    for name, value in (("SSL_CERT_FILE", certificate[1]), ("POSEWATCH_TRITON_CERT", file)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("POSEWATCH_TRITON_TOKEN", TOKEN)
    monkeypatch.delenv("POSEWATCH_TRITON_KEY", raising=False)
    with grpc_ingress(triton, certificate, own[1]) as place:
        connection = connect(place, "grpcs", retries=3)
        with pytest.raises(ServingError, match="POSEWATCH_TRITON_CERT"):
            connection.version()
        file.write_bytes(own[1].read_bytes() + own[0].read_bytes())
        assert connection.version()
        connection.close()


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
