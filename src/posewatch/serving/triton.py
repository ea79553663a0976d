"""Talks to a Triton server over gRPC or HTTP (the KServe v2 protocol): one small connection type for each.

Every failure becomes a ServingError of one line. Requests are repeated, a few times with random pauses, only when the
server is away or overloaded.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, ServingError

R = TypeVar("R")
Arrays = dict[str, NDArray[Any]]
ProtocolName = Literal["grpc", "http"]
_DTYPES = {"FP32": np.float32, "FP16": np.float16, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32}
_NAMES = {np.dtype(kind): name for name, kind in _DTYPES.items()}


class Away(Exception):
    """Internal: no answer, or the server has no room; worth another try."""


class Connection(Protocol):
    """One server. Methods raise ServingError; ``infer`` maps input arrays to output arrays by name."""

    def version(self) -> str: ...
    def ready(self, model: str) -> bool: ...
    def index(self) -> list[dict[str, Any]]: ...
    def config(self, model: str) -> dict[str, Any]: ...
    def statistics(self, model: str) -> dict[str, Any]: ...
    def load(self, model: str) -> None: ...
    def unload(self, model: str) -> None: ...
    def infer(self, model: str, inputs: Arrays) -> Arrays: ...
    def close(self) -> None: ...


def connect(url: str, protocol: str = "grpc", timeout_s: float = 30.0, retries: int = 3) -> Connection:
    """A connection to ``host:port``; nothing is sent yet. Raises InputError for another protocol than grpc or http."""
    if "://" in url or ":" not in url:
        raise InputError(f"bad server address {url!r}: write host:port")
    if protocol == "grpc":
        return GrpcConnection(url, timeout_s, retries)
    if protocol == "http":
        return HttpConnection(url, timeout_s, retries)
    raise InputError(f"unknown protocol {protocol!r}: use grpc or http")


def _persist(act: Callable[[], R], url: str, retries: int) -> R:
    for attempt in range(retries + 1):
        try:
            return act()
        except Away as error:
            if attempt == retries:
                raise ServingError(f"Triton at {url}: {error}") from None
            time.sleep(random.uniform(0.5, 1.0) * 0.1 * 2**attempt)
    raise AssertionError("unreachable")


def _away(text: str) -> Away:
    """In words, why a server is away."""
    if "maximum queue size" in text:
        return Away("its queue is full (send less at a time, or add instances)")
    return Away("no answer (is the server up? `posewatch status`)")


_NO_ID = "[request id: <id_unknown>] "


def _refusal(url: str, what: str, text: str, *, away: bool) -> Exception:
    """The error for a server's refusal ``text``; ``away`` says that the server called itself unavailable."""
    text = " ".join(text.replace(_NO_ID, "").split())
    if "timeout expired" in text.lower():
        return ServingError(f"Triton at {url} did not answer in time ({what})")
    if away and "not ready" not in text and "unknown model" not in text and "no available versions" not in text:
        return _away(text)
    return ServingError(f"Triton at {url}, {what}: {text}")


class GrpcConnection:
    """gRPC; may be used from many threads at once."""

    def __init__(self, url: str, timeout_s: float, retries: int) -> None:
        import tritonclient.grpc as grpc

        self.url, self._timeout, self._retries, self._grpc = url, timeout_s, retries, grpc
        self._client = grpc.InferenceServerClient(url)

    def _call(self, what: str, act: Callable[[], R]) -> R:
        from tritonclient.utils import InferenceServerException

        def once() -> R:
            try:
                return act()
            except InferenceServerException as error:
                status = str(error.status() or "")
                if "DEADLINE_EXCEEDED" in status:
                    raise ServingError(f"Triton at {self.url} did not answer in time ({what})") from None
                raise _refusal(self.url, what, str(error.message()), away="UNAVAILABLE" in status) from None

        return _persist(once, self.url, self._retries)

    def version(self) -> str:
        found = self._call("health", lambda: self._client.get_server_metadata(client_timeout=self._timeout))
        return str(found.version)

    def ready(self, model: str) -> bool:
        return bool(self._call(model, lambda: self._client.is_model_ready(model, client_timeout=self._timeout)))

    def index(self) -> list[dict[str, Any]]:
        found = self._call(
            "index", lambda: self._client.get_model_repository_index(as_json=True, client_timeout=self._timeout)
        )
        return list(found.get("models", []))

    def config(self, model: str) -> dict[str, Any]:
        found = self._call(
            model, lambda: self._client.get_model_config(model, as_json=True, client_timeout=self._timeout)
        )
        return dict(found["config"])

    def statistics(self, model: str) -> dict[str, Any]:
        found = self._call(
            model, lambda: self._client.get_inference_statistics(model, as_json=True, client_timeout=self._timeout)
        )
        return dict(found["model_stats"][0])

    def load(self, model: str) -> None:
        self._call(f"cannot load {model!r}", lambda: self._client.load_model(model))

    def unload(self, model: str) -> None:
        self._call(f"cannot unload {model!r}", lambda: self._client.unload_model(model))

    def infer(self, model: str, inputs: Arrays) -> Arrays:
        made = []
        for name, array in inputs.items():
            tensor = self._grpc.InferInput(name, list(array.shape), _NAMES[array.dtype])
            tensor.set_data_from_numpy(np.ascontiguousarray(array))
            made.append(tensor)
        answer = self._call(model, lambda: self._client.infer(model, made, client_timeout=self._timeout))
        return {o.name: np.array(answer.as_numpy(o.name)) for o in answer.get_response().outputs}

    def close(self) -> None:
        self._client.close()


class HttpConnection:
    """HTTP with the binary tensor extension; may be used from many threads at once."""

    def __init__(self, url: str, timeout_s: float, retries: int) -> None:
        import urllib3

        self.url, self._retries = url, retries
        timeout = urllib3.Timeout(connect=min(5.0, timeout_s), read=timeout_s)
        self._pool = urllib3.PoolManager(timeout=timeout, retries=False, maxsize=64)

    def _call(
        self,
        method: str,
        path: str,
        what: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        wait: bool = False,
        accept: tuple[int, ...] = (200,),
    ) -> Any:
        import urllib3

        more: dict[str, Any] = {"timeout": None} if wait else {}

        def once() -> Any:
            try:
                answer = self._pool.request(method, f"http://{self.url}{path}", body=body, headers=headers, **more)
            except urllib3.exceptions.ReadTimeoutError:
                raise ServingError(f"Triton at {self.url} did not answer in time ({what})") from None
            except urllib3.exceptions.HTTPError as error:
                raise _away(str(error)) from None
            if answer.status in accept:
                return answer
            try:
                text = str(json.loads(answer.data)["error"])
            except (ValueError, KeyError, TypeError):
                text = f"HTTP {answer.status}"
            raise _refusal(self.url, what, text, away=answer.status == 503)

        return _persist(once, self.url, self._retries)

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
        self._call("POST", f"/v2/repository/models/{model}/load", f"cannot load {model!r}", b"{}", wait=True)

    def unload(self, model: str) -> None:
        self._call("POST", f"/v2/repository/models/{model}/unload", f"cannot unload {model!r}", b"{}", wait=True)

    def infer(self, model: str, inputs: Arrays) -> Arrays:
        raw = [np.ascontiguousarray(array).tobytes() for array in inputs.values()]
        described = [
            {
                "name": name,
                "shape": array.shape,
                "datatype": _NAMES[array.dtype],
                "parameters": {"binary_data_size": len(data)},
            }
            for (name, array), data in zip(inputs.items(), raw, strict=True)
        ]
        head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
        size = "Inference-Header-Content-Length"
        headers = {"Content-Type": "application/octet-stream", size: str(len(head))}
        answer = self._call("POST", f"/v2/models/{model}/infer", model, b"".join((head, *raw)), headers)
        start = int(answer.headers[size])
        outputs: Arrays = {}
        for output in json.loads(answer.data[:start])["outputs"]:
            count = output["parameters"]["binary_data_size"]
            array = np.frombuffer(answer.data[start : start + count], _DTYPES[output["datatype"]])
            outputs[output["name"]] = array.reshape(output["shape"]).copy()
            start += count
        return outputs

    def close(self) -> None:
        self._pool.clear()
