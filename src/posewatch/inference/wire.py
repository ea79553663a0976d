"""What all connections to Triton share: deadlines, retries, and errors in one line.

A request is repeated only when the server is unavailable or overloaded (gRPC UNAVAILABLE; HTTP 429, 502 and 503; a
broken connection), a few times with growing random backoff, and never beyond the deadline of the call.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from posewatch.errors import InputError, ServingError
from posewatch.inference.predictor import Arrays
from posewatch.retry import retry

T = TypeVar("T")
LOAD_S = 600.0
"""Deadline for loading a model: its warm-up runs every batch size."""
FIRST_S, MAX_S = 0.1, 2.0
"""Backoff before the first repetition and at most, in seconds."""
_NO_ID = "[request id: <id_unknown>] "
_FINAL = ("not ready", "unknown model", "no available versions", "protocol is restricted")
"""What Triton writes in an UNAVAILABLE answer that no repetition changes."""
STOPPING = "has stopped accepting new inference requests"
"""What a Triton that ends answers on a connection that is held while it computes the requests that it has, for a second
at least. A new connection leads elsewhere, when another pod has taken over."""
ENDING = "no available versions"
"""What it answers then, when it has unloaded its models. If the model was unloaded for good, the second answer says
so."""


TLS = {
    "ostname mismatch": "its certificate is of another host",
    "IP address mismatch": "its certificate is of another host",
    "Hostname Verification Check failed": "its certificate is of another host",
    "Peer name": "its certificate is of another host",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted (SSL_CERT_FILE names the file of its authority)",
    "WRONG_VERSION_NUMBER": "it speaks without TLS (write grpc:// or http://)",
}
"""What OpenSSL and gRPC say of a connection with TLS, and what that means."""
HANGS_UP = ("_ALERT_", "EOF occurred", "Socket closed", "onnection reset")
"""What they say of a server that takes no client without a certificate of its own, or not with this one: a TLS alert
or, with TLS 1.3, only the end of the connection."""
NO_TOKEN = " (POSEWATCH_TRITON_TOKEN holds a token, which is sent over grpcs:// and https:// only)"


class Unavailable(Exception):
    """The server gave no answer, or has no room for the request: worth a retry, unless ``final``. Does not leave this
    package."""

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


class NoAnswer(ServingError):
    """The server was still unavailable at the last try; it said nothing of the request."""


class Deadline:
    """The moment by which a call must have its answer; it covers all tries and all batches of the call."""

    def __init__(self, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise InputError(f"a deadline must be above 0 seconds, not {timeout_s:g}")
        self.timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    def left(self) -> float:
        """Seconds left; 0 or below after it has passed."""
        return self._end - time.monotonic()

    def require(self, url: str, what: str) -> float:
        """Seconds left. Raises ServingError if there are none."""
        left = self.left()
        if left <= 0:
            raise too_late(url, what, self)
        return left


def call(send: Callable[[float], T], url: str, what: str, retries: int, deadline: Deadline) -> T:
    """``send(seconds left)``, repeated up to ``retries`` times while it raises Unavailable. Raises ServingError."""
    tries = 0

    def once() -> T:
        nonlocal tries
        tries += 1
        return send(deadline.require(url, what))

    try:
        return retry(
            once, lambda error: isinstance(error, Unavailable) and not error.final,
            attempts=retries + 1, timeout_s=deadline.left(), first_s=FIRST_S, max_s=MAX_S,
        )  # fmt: skip
    except Unavailable as error:
        raise NoAnswer(f"Triton at {url}: {error}" + (f" after {tries} tries" if tries > 1 else "")) from None


def too_late(url: str, what: str, deadline: Deadline) -> ServingError:
    """The error for an answer that did not come in time."""
    return ServingError(f"Triton at {url} did not answer within {deadline.timeout_s:g} s ({what})")


def authorization() -> dict[str, str]:
    """The header with the token of ``POSEWATCH_TRITON_TOKEN``; empty without one. For connections with TLS only."""
    token = os.environ.get("POSEWATCH_TRITON_TOKEN", "").strip()
    return {"authorization": f"Bearer {token}"} if token else {}


def own_certificate() -> tuple[str | None, str | None]:
    """The files of the client's own certificate and of its key (PEM), for servers that ask for one: what
    ``POSEWATCH_TRITON_CERT`` and ``POSEWATCH_TRITON_KEY`` name. Without the second the first holds both."""
    certificate = os.environ.get("POSEWATCH_TRITON_CERT") or None
    return certificate, (os.environ.get("POSEWATCH_TRITON_KEY") or certificate)


def check_files() -> None:
    """Raises InputError if ``SSL_CERT_FILE`` names a file without certificates, which neither OpenSSL nor gRPC says, or
    for an own certificate and key that do not fit."""
    path = os.environ.get("SSL_CERT_FILE")
    try:
        if path:
            ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError):
        raise InputError(f"SSL_CERT_FILE names {path}, which holds no certificates (PEM): name one that does") from None
    certificate, key = own_certificate()
    if key and not certificate:
        raise InputError("POSEWATCH_TRITON_KEY names a key without its certificate: set POSEWATCH_TRITON_CERT, too")
    try:
        if certificate:
            # without a password OpenSSL would ask for one at the terminal, and wait
            ssl.create_default_context().load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        names = f"POSEWATCH_TRITON_CERT ({certificate}) and POSEWATCH_TRITON_KEY ({key})"
        raise InputError(f"{names} are no certificate and its key (PEM, without a passphrase): {error}") from None


def unavailable(text: str, *, tls: bool = False) -> Unavailable:
    """Why a server is unavailable, from its own or the client library's ``text``; ``tls``: asked with TLS."""
    if "maximum queue size" in text:
        return Unavailable("its queue is full (send less at a time, or add instances)")
    for part, reason in TLS.items():
        if part in text:
            return Unavailable(reason, final=True)
    if tls and any(part in text for part in HANGS_UP):
        what = (
            "another certificate of its client than POSEWATCH_TRITON_CERT"
            if own_certificate()[0]
            else ("a certificate of its client, POSEWATCH_TRITON_CERT")
        )
        return Unavailable(f"no answer (is the server up, and does it speak TLS? does it want {what}?)")
    if "[SSL:" in text:
        return Unavailable("no answer (is the server up, and does it speak TLS?)")
    by = next((name for name in ("grpc_proxy", "https_proxy", "http_proxy") if os.environ.get(name)), "")
    if "proxy" in text.lower() and by:
        return Unavailable(f"no answer by way of the proxy of {by} (name this host in no_proxy)")
    return Unavailable("no answer (is the server up? `posewatch status`)")


def refusal(url: str, what: str, text: str, deadline: Deadline, *, retryable: bool, tls: bool = False) -> Exception:
    """The error for a refusal with the message ``text``; ``retryable``: by its status code; ``tls`` as above."""
    text = " ".join(text.replace(_NO_ID, "").split())
    if "timeout expired" in text.lower():
        return too_late(url, what, deadline)
    if retryable and not any(part in text for part in _FINAL):
        return unavailable(text, tls=tls)
    return ServingError(f"Triton at {url}, {what}: {text}")


def understood(url: str, what: str, read: Callable[[], T]) -> T:
    """What ``read`` makes of an answer. Raises ServingError for one that no Triton gives: a proxy's page, say."""
    from tritonclient.utils import InferenceServerException

    try:
        return read()
    except (LookupError, TypeError, ValueError, AttributeError, InferenceServerException):
        raise ServingError(
            f"{url} answers, but not as Triton does ({what}): are address and port those of Triton?"
        ) from None


def microseconds(seconds: float) -> int:
    """A request's time to live as Triton counts it: at least 1, as 0 means for ever."""
    return max(1, int(seconds * 1e6))


def infer_inputs(kind: Any, arrays: Arrays) -> list[Any]:
    """Arrays by name as ``tritonclient`` sends them; ``kind`` is the InferInput of its module for the protocol."""
    from tritonclient.utils import np_to_triton_dtype

    tensors = []
    for name, array in arrays.items():
        tensor = kind(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(np.ascontiguousarray(array))
        tensors.append(tensor)
    return tensors
