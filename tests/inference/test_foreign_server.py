"""A gRPC server that somebody else set up: behind a proxy's variables, with a repository that is kept from clients."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from posewatch.errors import InputError, ServingError
from posewatch.inference.open import open_predictor, parse_endpoint
from posewatch.redact import redact

RESTRICTED = "This protocol is restricted, expecting header 'triton-grpc-protocol-key'"
"""What Triton's gRPC frontend answers with UNAVAILABLE (src/grpc/grpc_server.cc, --grpc-restricted-protocol)."""


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    restricted = ("index",)

    def ServerMetadata(self, *_: Any) -> Any:
        return service_pb2.ServerMetadataResponse(version="2.51.0")

    def ModelReady(self, request: Any, context: Any) -> Any:
        if "health" in self.restricted:
            context.abort(grpc.StatusCode.UNAVAILABLE, RESTRICTED)
        return service_pb2.ModelReadyResponse(ready=False)

    def RepositoryIndex(self, request: Any, context: Any) -> None:
        context.abort(grpc.StatusCode.UNAVAILABLE, RESTRICTED)


@pytest.fixture
def foreign() -> Iterator[tuple[Servicer, str]]:
    server, servicer = grpc.server(ThreadPoolExecutor(2)), Servicer()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"grpc://127.0.0.1:{port}/abnormal"
    server.stop(None)


def test_a_server_on_this_machine_is_asked_without_the_proxy(
    foreign: tuple[Servicer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(ServingError, match="the model 'abnormal' is not ready, or not there"):
        open_predictor(foreign[1], timeout_s=5.0, retries=0)


def test_a_restricted_protocol_is_told_as_what_it_is(foreign: tuple[Servicer, str]) -> None:
    foreign[0].restricted = ("index", "health")
    with pytest.raises(ServingError, match="is restricted, expecting header 'triton-grpc-protocol-key'"):
        open_predictor(foreign[1], timeout_s=5.0, retries=3)


@pytest.mark.parametrize("endpoint", ["tls://host:443/abnormal", "grpc://host:8001", "http://host:80/v2/models/m"])
def test_the_remedy_of_a_bad_endpoint_can_be_read(endpoint: str) -> None:
    with pytest.raises(InputError) as told:
        parse_endpoint(endpoint)
    assert "write grpc://host:8001/model or http://host:8000/model" in redact(str(told.value))
