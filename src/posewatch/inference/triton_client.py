"""A blocking connection to a Triton server, over gRPC or HTTP (the KServe v2 protocol), with TLS or without."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from posewatch.errors import InputError
from posewatch.inference.predictor import Arrays
from posewatch.inference.triton_grpc import GrpcConnection
from posewatch.inference.triton_http import HttpConnection
from posewatch.inference.triton_shared import SharedConnection
from posewatch.inference.wire import Deadline, check_files


class Connection(Protocol):
    """One server. Every failure is a ServingError of one line; ``infer`` maps input arrays to output arrays by name.

    A ``deadline`` covers all tries of a call; without one, the connection's own timeout does.
    """

    def version(self) -> str: ...
    def ready(self, model: str) -> bool: ...
    def index(self) -> list[dict[str, Any]]: ...
    def config(self, model: str, deadline: Deadline | None = None) -> dict[str, Any]: ...
    def statistics(self, model: str) -> dict[str, Any]: ...
    def load(self, model: str) -> None: ...
    def unload(self, model: str) -> None: ...
    def infer(self, model: str, inputs: Arrays, deadline: Deadline | None = None) -> Arrays: ...
    def close(self) -> None: ...


PROTOCOLS: dict[str, Callable[[str, float, int], Connection]] = {
    "grpc": GrpcConnection,
    "http": HttpConnection,
    "grpcs": partial(GrpcConnection, tls=True),
    "https": partial(HttpConnection, tls=True),
    "grpc+shm": SharedConnection,
}
"""``grpcs`` and ``https`` are those with TLS; ``grpc+shm`` is gRPC with clips in shared memory, for a server on this
machine."""


def connect(url: str, protocol: str = "grpc", timeout_s: float = 30.0, retries: int = 3) -> Connection:
    """A connection to ``host:port`` by a protocol of ``PROTOCOLS``; nothing is sent yet. Over HTTP a path may follow.

    With TLS, the authorities are those of ``SSL_CERT_FILE`` or the system, and the token in ``POSEWATCH_TRITON_TOKEN``,
    if it is set, goes with each request; ``wire.own_certificate`` is shown to servers that ask for one. Raises
    InputError for a bad address or protocol, and for such files that hold no certificates.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"unknown protocol {protocol!r}: use {', '.join(PROTOCOLS)}")
    place, slash, _ = url.partition("/")
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit() or (slash and "http" not in protocol):
        raise InputError(f"bad server address {url!r}: write host:port")
    if protocol in ("grpcs", "https"):
        check_files()
    return PROTOCOLS[protocol](url, timeout_s, retries)
