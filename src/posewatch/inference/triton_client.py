"""Talks to a Triton server over gRPC or HTTP (the KServe v2 protocol): one small blocking connection type for each.

Every failure becomes a ServingError of one line; ``wire`` says what is tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from posewatch.errors import InputError
from posewatch.inference import wire
from posewatch.inference.wire import Arrays, Away, Deadline, Retry

R = TypeVar("R")
ProtocolName = Literal["grpc", "http"]
LOAD_S = 600.0
"""Seconds that loading a model may take: its warm-up runs every batch size."""


class Connection(Protocol):
    """One server. Methods raise ServingError; ``infer`` maps input arrays to output arrays by name.

    A ``deadline`` covers all tries of a call; without one, the connection's own timeout does.
    """

    def version(self) -> str: ...
    def ready(self, model: str) -> bool: ...
    def index(self) -> list[dict[str, Any]]: ...
    def config(self, model: str) -> dict[str, Any]: ...
    def statistics(self, model: str) -> dict[str, Any]: ...
    def load(self, model: str) -> None: ...
    def unload(self, model: str) -> None: ...
    def infer(self, model: str, inputs: Arrays, deadline: Deadline | None = None) -> Arrays: ...
    def close(self) -> None: ...


def connect(url: str, protocol: str = "grpc", timeout_s: float = 30.0, retries: int = 3) -> Connection:
    """A connection to ``host:port``; nothing is sent yet. Raises InputError for another protocol than grpc or http."""
    wire.check_address(url)
    if protocol not in ("grpc", "http"):
        raise InputError(f"unknown protocol {protocol!r}: use grpc or http")
    kind = GrpcConnection if protocol == "grpc" else HttpConnection
    return kind(url, timeout_s, Retry(retries))


def _persist(act: Callable[[float], R], url: str, what: str, retry: Retry, deadline: Deadline) -> R:
    """``act`` with the seconds that are left, again while it finds the server away."""
    attempt = 0
    while True:
        try:
            return act(deadline.require(url, what))
        except Away as error:
            wait = retry.pause(attempt, deadline, error, url)
        time.sleep(wait)
        attempt += 1


class GrpcConnection:
    """gRPC; may be used from many threads at once, which share one connection."""

    def __init__(self, url: str, timeout_s: float, retry: Retry) -> None:
        import tritonclient.grpc as grpc

        self.url, self._timeout, self._retry, self._grpc = url, timeout_s, retry, grpc
        self._client = grpc.InferenceServerClient(url, channel_args=wire.CHANNEL)

    def _call(self, what: str, act: Callable[[float], R], deadline: Deadline | None = None) -> R:
        from tritonclient.utils import InferenceServerException

        until = deadline or Deadline(self._timeout)

        def once(left: float) -> R:
            try:
                return act(left)
            except InferenceServerException as error:
                raise grpc_refusal(self.url, what, error, until) from None

        return _persist(once, self.url, what, self._retry, until)

    def version(self) -> str:
        return str(self._call("health", lambda s: self._client.get_server_metadata(client_timeout=s)).version)

    def ready(self, model: str) -> bool:
        return bool(self._call(model, lambda s: self._client.is_model_ready(model, client_timeout=s)))

    def index(self) -> list[dict[str, Any]]:
        found = self._call("index", lambda s: self._client.get_model_repository_index(as_json=True, client_timeout=s))
        return list(found.get("models", []))

    def config(self, model: str) -> dict[str, Any]:
        found = self._call(model, lambda s: self._client.get_model_config(model, as_json=True, client_timeout=s))
        return dict(found["config"])

    def statistics(self, model: str) -> dict[str, Any]:
        found = self._call(
            model, lambda s: self._client.get_inference_statistics(model, as_json=True, client_timeout=s)
        )
        return dict(found["model_stats"][0])

    def load(self, model: str) -> None:
        wait = Deadline(LOAD_S)
        self._call(f"cannot load {model!r}", lambda s: self._client.load_model(model, client_timeout=s), wait)

    def unload(self, model: str) -> None:
        wait = Deadline(LOAD_S)
        self._call(f"cannot unload {model!r}", lambda s: self._client.unload_model(model, client_timeout=s), wait)

    def infer(self, model: str, inputs: Arrays, deadline: Deadline | None = None) -> Arrays:
        made = grpc_inputs(self._grpc, inputs)
        answer = self._call(
            model,
            lambda s: self._client.infer(model, made, client_timeout=s, timeout=wire.microseconds(s)),
            deadline,
        )
        return grpc_outputs(answer)

    def close(self) -> None:
        self._client.close()


def grpc_inputs(grpc: Any, inputs: Arrays) -> list[Any]:
    """Arrays by name as ``tritonclient`` (its module ``grpc``) sends them."""
    made = []
    for name, array in inputs.items():
        tensor = grpc.InferInput(name, list(array.shape), wire.NAMES[array.dtype])
        tensor.set_data_from_numpy(np.ascontiguousarray(array))
        made.append(tensor)
    return made


def grpc_outputs(answer: Any) -> Arrays:
    """All outputs of an answer, as copies that outlive it."""
    return {o.name: np.array(answer.as_numpy(o.name)) for o in answer.get_response().outputs}


def grpc_refusal(url: str, what: str, error: Any, deadline: Deadline) -> Exception:
    """Our error for an InferenceServerException."""
    status = str(error.status() or "")
    if "DEADLINE_EXCEEDED" in status:
        return wire.late(url, what, deadline)
    return wire.refusal(url, what, str(error.message()), deadline, unavailable="UNAVAILABLE" in status)


class HttpConnection:
    """HTTP with the binary tensor extension; may be used from many threads at once, connections are kept and reused."""

    def __init__(self, url: str, timeout_s: float, retry: Retry) -> None:
        import urllib3

        self.url, self._timeout, self._retry = url, timeout_s, retry
        self._pool = urllib3.PoolManager(retries=False, maxsize=64)

    def _call(
        self,
        method: str,
        path: str,
        what: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        deadline: Deadline | None = None,
        accept: tuple[int, ...] = (200,),
    ) -> Any:
        import urllib3

        until = deadline or Deadline(self._timeout)

        def once(left: float) -> Any:
            timeout = urllib3.Timeout(connect=min(5.0, left), read=left)
            address = f"http://{self.url}{path}"
            try:
                answer = self._pool.request(method, address, body=body, headers=headers, timeout=timeout)
            except urllib3.exceptions.ReadTimeoutError:
                raise wire.late(self.url, what, until) from None
            except urllib3.exceptions.HTTPError as error:
                raise wire.away(str(error)) from None
            if answer.status in accept:
                return answer
            raise wire.http_refusal(self.url, what, answer.status, answer.data, until)

        return _persist(once, self.url, what, self._retry, until)

    def version(self) -> str:
        return str(self._call("GET", "/v2", "health").json()["version"])

    def ready(self, model: str) -> bool:
        return bool(self._call("GET", f"/v2/models/{model}/ready", model, accept=(200, 400, 404)).status == 200)

    def index(self) -> list[dict[str, Any]]:
        return list(self._call("POST", "/v2/repository/index", "index", b"{}").json())

    def config(self, model: str) -> dict[str, Any]:
        return dict(self._call("GET", f"/v2/models/{model}/config", model).json())

    def statistics(self, model: str) -> dict[str, Any]:
        return dict(self._call("GET", f"/v2/models/{model}/stats", model).json()["model_stats"][0])

    def load(self, model: str) -> None:
        self._repository(model, "load")

    def unload(self, model: str) -> None:
        self._repository(model, "unload")

    def _repository(self, model: str, act: str) -> None:
        path = f"/v2/repository/models/{model}/{act}"
        self._call("POST", path, f"cannot {act} {model!r}", b"{}", deadline=Deadline(LOAD_S))

    def infer(self, model: str, inputs: Arrays, deadline: Deadline | None = None) -> Arrays:
        until = deadline or Deadline(self._timeout)
        body, headers = wire.http_request(inputs, until.require(self.url, model))
        answer = self._call("POST", f"/v2/models/{model}/infer", model, body, headers, deadline=until)
        return wire.http_answer(answer.headers, answer.data)

    def close(self) -> None:
        self._pool.clear()
