"""Triton over HTTP, with the binary tensor extension of the KServe v2 protocol."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from posewatch.inference import wire
from posewatch.inference.predictor import Arrays
from posewatch.inference.wire import Deadline

RETRYABLE = (429, 502, 503)
HEADER_SIZE = "Inference-Header-Content-Length"


class HttpConnection:
    """See ``Connection``; its calls share a pool of connections and may come from several threads."""

    def __init__(self, url: str, timeout_s: float, retries: int, *, tls: bool = False) -> None:
        import urllib3

        self.url, self._timeout_s, self._retries = url, timeout_s, retries
        self._base = f"{'https' if tls else 'http'}://{url}"
        headers = wire.authorization() if tls else None
        own, key = wire.own_certificate() if tls else (None, None)
        # urllib3 reads the files again for each connection
        self._pool = urllib3.PoolManager(retries=False, maxsize=64, headers=headers, cert_file=own, key_file=key)

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

        until, connected_again = deadline or Deadline(self._timeout_s), False

        def once(left_s: float) -> Any:
            nonlocal connected_again
            timeout = urllib3.Timeout(connect=min(5.0, left_s), read=left_s)
            sent = {**self._pool.headers, **(headers or {})}
            try:
                answer = self._pool.request(method, self._base + path, body=body, headers=sent, timeout=timeout)
            except urllib3.exceptions.ReadTimeoutError:
                raise wire.too_late(self.url, what, until) from None
            except urllib3.exceptions.HTTPError as error:
                raise wire.unavailable(str(error), tls=self._base.startswith("https:")) from None
            if answer.status in accept:
                return answer
            text = _message(answer.status, answer.data) + (wire.NO_TOKEN if answer.status == 401 else "")
            if wire.STOPPING in text or (wire.ENDING in text and not connected_again):
                connected_again = connected_again or wire.ENDING in text
                self._pool.clear()
                raise wire.unavailable(text)
            raise wire.refusal(self.url, what, text, until, retryable=answer.status in RETRYABLE)

        return wire.call(once, self.url, what, self._retries, until)

    def version(self) -> str:
        answer = self._call("GET", "/v2", "health")
        return wire.understood(self.url, "health", lambda: str(answer.json()["version"]))

    def ready(self, model: str) -> bool:
        return bool(self._call("GET", f"/v2/models/{model}/ready", model, accept=(200, 400, 404)).status == 200)

    def index(self) -> list[dict[str, Any]]:
        answer = self._call("POST", "/v2/repository/index", "index", b"{}")
        return wire.understood(self.url, "index", lambda: [dict(row) for row in answer.json()])

    def config(self, model: str, deadline: Deadline | None = None) -> dict[str, Any]:
        answer = self._call("GET", f"/v2/models/{model}/config", model, deadline=deadline)
        return wire.understood(self.url, model, lambda: dict(answer.json()))

    def statistics(self, model: str) -> dict[str, Any]:
        answer = self._call("GET", f"/v2/models/{model}/stats", model)
        return wire.understood(self.url, model, lambda: dict(answer.json()["model_stats"][0]))

    def load(self, model: str) -> None:
        self._repository(model, "load")

    def unload(self, model: str) -> None:
        self._repository(model, "unload")

    def _repository(self, model: str, verb: str) -> None:
        path = f"/v2/repository/models/{model}/{verb}"
        self._call("POST", path, f"cannot {verb} {model!r}", b"{}", deadline=Deadline(wire.LOAD_S))

    def infer(self, model: str, inputs: Arrays, deadline: Deadline | None = None) -> Arrays:
        from tritonclient.http import InferenceServerClient, InferInput

        until = deadline or Deadline(self._timeout_s)
        tensors = wire.infer_inputs(InferInput, inputs)
        timeout = wire.microseconds(until.require(self.url, model))
        body, head = InferenceServerClient.generate_request_body(tensors, timeout=timeout)
        headers = {"Content-Type": "application/octet-stream", HEADER_SIZE: str(head)}
        answer = self._call("POST", f"/v2/models/{model}/infer", model, body, headers, deadline=until)

        def read() -> Arrays:
            size = answer.headers.get(HEADER_SIZE)  # missing: a server without the binary extension answers in JSON
            result = InferenceServerClient.parse_response_body(answer.data, header_length=int(size) if size else None)
            return {o["name"]: np.array(result.as_numpy(o["name"])) for o in result.get_response()["outputs"]}

        return wire.understood(self.url, model, read)

    def close(self) -> None:
        self._pool.clear()


def _message(status: int, body: bytes) -> str:
    """The server's own message in an error answer, else the status."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {status}"
