"""The connections of ``triton`` for asyncio: gRPC by ``grpc.aio``, HTTP by aiohttp; the same errors and retries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from posewatch.errors import InputError
from posewatch.inference import wire
from posewatch.inference.triton_client import grpc_inputs, grpc_outputs, grpc_refusal
from posewatch.inference.wire import Arrays, Away, Deadline, Retry

R = TypeVar("R")


class AsyncConnection(Protocol):
    """One server, from one event loop; methods raise ServingError."""

    async def version(self) -> str: ...
    async def ready(self, model: str) -> bool: ...
    async def index(self) -> list[dict[str, Any]]: ...
    async def config(self, model: str) -> dict[str, Any]: ...
    async def infer(self, model: str, inputs: Arrays, deadline: Deadline | None = None) -> Arrays: ...
    async def close(self) -> None: ...


def connect(url: str, protocol: str = "grpc", timeout_s: float = 30.0, retries: int = 3) -> AsyncConnection:
    """A connection to ``host:port``, made inside a running event loop. Raises InputError for another protocol."""
    wire.check_address(url)
    if protocol not in ("grpc", "http"):
        raise InputError(f"unknown protocol {protocol!r}: use grpc or http")
    kind = AsyncGrpcConnection if protocol == "grpc" else AsyncHttpConnection
    return kind(url, timeout_s, Retry(retries))


async def _persist(act: Callable[[float], Awaitable[R]], url: str, what: str, retry: Retry, deadline: Deadline) -> R:
    attempt = 0
    while True:
        try:
            return await act(deadline.require(url, what))
        except Away as error:
            wait = retry.pause(attempt, deadline, error, url)
        await asyncio.sleep(wait)
        attempt += 1


class AsyncGrpcConnection:
    """gRPC over one connection, which all requests share."""

    def __init__(self, url: str, timeout_s: float, retry: Retry) -> None:
        import tritonclient.grpc as grpc
        import tritonclient.grpc.aio as aio

        self.url, self._timeout, self._retry, self._grpc = url, timeout_s, retry, grpc
        self._client = aio.InferenceServerClient(url, channel_args=wire.CHANNEL)

    async def _call(self, what: str, act: Callable[[float], Awaitable[Any]], deadline: Deadline | None = None) -> Any:
        from tritonclient.utils import InferenceServerException

        until = deadline or Deadline(self._timeout)

        async def once(left: float) -> Any:
            try:
                return await act(left)
            except InferenceServerException as error:
                raise grpc_refusal(self.url, what, error, until) from None

        return await _persist(once, self.url, what, self._retry, until)

    async def version(self) -> str:
        return str((await self._call("health", lambda s: self._client.get_server_metadata(client_timeout=s))).version)

    async def ready(self, model: str) -> bool:
        return bool(await self._call(model, lambda s: self._client.is_model_ready(model, client_timeout=s)))

    async def index(self) -> list[dict[str, Any]]:
        found = await self._call(
            "index", lambda s: self._client.get_model_repository_index(as_json=True, client_timeout=s)
        )
        return list(found.get("models", []))

    async def config(self, model: str) -> dict[str, Any]:
        found = await self._call(model, lambda s: self._client.get_model_config(model, as_json=True, client_timeout=s))
        return dict(found["config"])

    async def infer(self, model: str, inputs: Arrays, deadline: Deadline | None = None) -> Arrays:
        made = grpc_inputs(self._grpc, inputs)
        answer = await self._call(
            model,
            lambda s: self._client.infer(model, made, client_timeout=s, timeout=wire.microseconds(s)),
            deadline,
        )
        return grpc_outputs(answer)

    async def close(self) -> None:
        await self._client.close()


class AsyncHttpConnection:
    """HTTP with the binary tensor extension; connections are kept and reused."""

    def __init__(self, url: str, timeout_s: float, retry: Retry) -> None:
        import aiohttp

        self.url, self._timeout, self._retry = url, timeout_s, retry
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64), auto_decompress=True)

    async def _call(
        self,
        method: str,
        path: str,
        what: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        deadline: Deadline | None = None,
        accept: tuple[int, ...] = (200,),
    ) -> tuple[int, Any, bytes]:
        import aiohttp

        until = deadline or Deadline(self._timeout)

        async def once(left: float) -> tuple[int, Any, bytes]:
            timeout = aiohttp.ClientTimeout(total=left, sock_connect=min(5.0, left))
            told: dict[str, Any] = {"data": body, "headers": headers, "timeout": timeout}
            try:
                async with self._session.request(method, f"http://{self.url}{path}", **told) as answer:
                    data = await answer.read()
            except aiohttp.ConnectionTimeoutError as error:
                raise wire.away(str(error)) from None
            except TimeoutError:
                raise wire.late(self.url, what, until) from None
            except aiohttp.ClientError as error:
                raise wire.away(str(error)) from None
            if answer.status in accept:
                return answer.status, answer.headers, data
            raise wire.http_refusal(self.url, what, answer.status, data, until)

        return await _persist(once, self.url, what, self._retry, until)

    async def _json(self, method: str, path: str, what: str, body: bytes | None = None) -> Any:
        import json

        return json.loads((await self._call(method, path, what, body))[2])

    async def version(self) -> str:
        return str((await self._json("GET", "/v2", "health"))["version"])

    async def ready(self, model: str) -> bool:
        return (await self._call("GET", f"/v2/models/{model}/ready", model, accept=(200, 400, 404)))[0] == 200

    async def index(self) -> list[dict[str, Any]]:
        return list(await self._json("POST", "/v2/repository/index", "index", b"{}"))

    async def config(self, model: str) -> dict[str, Any]:
        return dict(await self._json("GET", f"/v2/models/{model}/config", model))

    async def infer(self, model: str, inputs: Arrays, deadline: Deadline | None = None) -> Arrays:
        until = deadline or Deadline(self._timeout)
        body, headers = wire.http_request(inputs, until.require(self.url, model))
        _, told, data = await self._call("POST", f"/v2/models/{model}/infer", model, body, headers, deadline=until)
        return wire.http_answer(told, data)

    async def close(self) -> None:
        await self._session.close()
