"""Triton over gRPC."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from posewatch.inference import wire
from posewatch.inference.predictor import Arrays
from posewatch.inference.wire import Deadline

T = TypeVar("T")
CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # gRPC waits 1 s and then ever longer, up to 2 minutes, before it reconnects, and fails every request meanwhile:
    # all retries would meet the same refusal although the server is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # in spite of its name, how long connecting may take; a busy server is slow
    ("grpc.min_reconnect_backoff_ms", 5000),
    # do not share the backoff of another client in this process
    ("grpc.use_local_subchannel_pool", 1),
]
"""Options of every gRPC connection."""
SILENT_S = 5.0
"""A call that ends at its deadline, with nothing heard from the server for so long, gives up its connection."""


class GrpcConnection:
    """See ``Connection``; its calls share one connection and may come from several threads."""

    def __init__(self, url: str, timeout_s: float, retries: int, *, tls: bool = False) -> None:
        self.url, self._timeout_s, self._retries, self._tls = url, timeout_s, retries, tls
        self._client, self._heard = self._connect(), time.monotonic()

    def _connect(self) -> Any:
        import tritonclient.grpc as grpc

        host = self.url.rpartition(":")[0].strip("[]")
        # gRPC goes to the proxy of http_proxy even for this machine, unless no_proxy names it
        here = [("grpc.enable_http_proxy", 0)] if host == "localhost" or host.startswith(("127.", "::1")) else []
        # gRPC has authorities of its own, and does not know SSL_CERT_FILE
        roots = ssl.get_default_verify_paths().cafile if self._tls else None
        own, key = wire.own_certificate() if self._tls else (None, None)
        self._certificate = _changed(own)
        client = grpc.InferenceServerClient(
            self.url,
            ssl=self._tls,
            root_certificates=roots,
            private_key=key,
            certificate_chain=own,
            channel_args=[*CHANNEL, *here],
        )
        if self._tls and (headers := wire.authorization()):
            client.register_plugin(_Headers(headers))
        return client

    def _call(self, what: str, send: Callable[[float], T], deadline: Deadline | None = None) -> T:
        from tritonclient.utils import InferenceServerException

        until, connected_again = deadline or Deadline(self._timeout_s), False

        def once(left_s: float) -> T:
            nonlocal connected_again
            client = self._client
            try:
                answer = send(left_s)
                self._heard = time.monotonic()
                return answer
            except InferenceServerException as error:
                status = str(error.status() or "")
                if "DEADLINE_EXCEEDED" in status:
                    self._leave_if_silent(client)
                    raise wire.too_late(self.url, what, until) from None
                text = str(error.message()) + (wire.NO_TOKEN if "UNAUTHENTICATED" in status else "")
                if wire.STOPPING in text or (wire.ENDING in text and not connected_again):
                    connected_again = connected_again or wire.ENDING in text
                    self._leave(client)
                    raise wire.unavailable(text) from None
                if self._tls and _changed(wire.own_certificate()[0]) != self._certificate:
                    self._leave(client)  # it was renewed, and the one of before may have run out
                # Nobody here cancels: CANCELLED is a server that ends with the request in flight.
                retryable = "UNAVAILABLE" in status or "CANCELLED" in status
                raise wire.refusal(self.url, what, text, until, retryable=retryable, tls=self._tls) from None

        return wire.call(once, self.url, what, self._retries, until)

    def _leave_if_silent(self, client: Any) -> None:
        """Connect anew if nothing was heard for ``SILENT_S``.

        A node that lost its power, or a firewall that forgot the connection, answers nothing, not even that it is gone:
        the kernel sends again for a quarter of an hour, and gRPC holds on to the connection as long. Pings would show
        it, too, but Triton ends connections whose clients ping while it computes.
        """
        if time.monotonic() - self._heard > SILENT_S:
            self._leave(client)

    def _leave(self, client: Any) -> None:
        """Connect anew, unless another call has done so since ``client`` was taken."""
        if self._client is client:
            # The old connection ends with its last call: others may still wait for an answer on it.
            self._client, self._heard = self._connect(), time.monotonic()

    def version(self) -> str:
        return str(self._call("health", lambda s: self._client.get_server_metadata(client_timeout=s)).version)

    def ready(self, model: str) -> bool:
        return bool(self._call(model, lambda s: self._client.is_model_ready(model, client_timeout=s)))

    def index(self) -> list[dict[str, Any]]:
        def send(left_s: float) -> Any:
            return self._client.get_model_repository_index(as_json=True, client_timeout=left_s)

        return list(self._call("index", send).get("models", []))

    def config(self, model: str, deadline: Deadline | None = None) -> dict[str, Any]:
        def send(left_s: float) -> Any:
            return self._client.get_model_config(model, as_json=True, client_timeout=left_s)

        answer = self._call(model, send, deadline)
        return dict(answer["config"])

    def statistics(self, model: str) -> dict[str, Any]:
        def send(left_s: float) -> Any:
            return self._client.get_inference_statistics(model, as_json=True, client_timeout=left_s)

        return dict(self._call(model, send)["model_stats"][0])

    def load(self, model: str) -> None:
        self._repository(model, "load", self._client.load_model)

    def unload(self, model: str) -> None:
        self._repository(model, "unload", self._client.unload_model)

    def _repository(self, model: str, verb: str, send: Callable[..., object]) -> None:
        until = Deadline(wire.LOAD_S)
        self._call(f"cannot {verb} {model!r}", lambda s: send(model, client_timeout=s), until)

    def infer(self, model: str, inputs: Arrays, deadline: Deadline | None = None) -> Arrays:
        from tritonclient.grpc import InferInput

        return self._infer(model, wire.infer_inputs(InferInput, inputs), deadline)

    def _infer(self, model: str, tensors: list[Any], deadline: Deadline | None) -> Arrays:
        def send(left_s: float) -> Any:
            return self._client.infer(model, tensors, client_timeout=left_s, timeout=wire.microseconds(left_s))

        answer = self._call(model, send, deadline)
        outputs = answer.get_response().outputs
        return wire.understood(self.url, model, lambda: {o.name: np.array(answer.as_numpy(o.name)) for o in outputs})

    def close(self) -> None:
        self._client.close()


def _changed(file: str | None) -> int:
    """When a file was changed last; 0 for none."""
    try:
        return os.stat(file).st_mtime_ns if file else 0
    except OSError:
        return 0


class _Headers:
    """A plugin of tritonclient (``InferenceServerClientPlugin``): sends ``headers`` with each request."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: Any) -> None:
        request.headers.update(self._headers)
