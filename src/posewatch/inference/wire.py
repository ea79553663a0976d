"""What all connections to Triton share: when to try again, refusals in words, the body of an HTTP request.

Requests are repeated only when the server is away or overloaded (gRPC UNAVAILABLE; HTTP 429, 502 and 503; a connection
that breaks), a few times, after random pauses that grow, and never beyond the deadline of the call.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, ServingError

Arrays = dict[str, NDArray[Any]]
DTYPES = {"FP32": np.float32, "FP16": np.float16, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32}
NAMES = {np.dtype(kind): name for name, kind in DTYPES.items()}
RETRYABLE_HTTP = (429, 502, 503)
HEADER_SIZE = "Inference-Header-Content-Length"
CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # gRPC waits for 1 s and then ever longer, up to 2 minutes, before it connects again, and fails whatever is asked
    # meanwhile: every retry would meet the same refusal although the server is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # in spite of its name: how long making a connection may take, which a busy server makes long
    ("grpc.min_reconnect_backoff_ms", 5000),
    # nobody inherits the pause of another client of this process
    ("grpc.use_local_subchannel_pool", 1),
]
"""Options of every gRPC connection."""
_NO_ID = "[request id: <id_unknown>] "


class Away(Exception):
    """Internal: no answer, or the server has no room; worth another try."""


@dataclass(frozen=True)
class Retry:
    """At most ``retries`` repetitions; before the n-th a pause drawn evenly from 0 to ``base_s`` x 2^n, at most
    ``most_s`` seconds (full jitter: clients that were refused together do not come back together).
    """

    retries: int = 3
    base_s: float = 0.1
    most_s: float = 2.0

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise InputError(f"retries must be at least 0, not {self.retries}")

    def pause(self, attempt: int, deadline: Deadline, error: Away, url: str) -> float:
        """Seconds to wait after the failed ``attempt`` (0, 1, ...). Raises ServingError when it was the last one."""
        wait = random.uniform(0.0, min(self.most_s, self.base_s * 2**attempt))
        if attempt >= self.retries or wait >= deadline.left():
            tries = f" after {attempt + 1} tries" if attempt else ""
            raise ServingError(f"Triton at {url}: {error}{tries}") from None
        return wait


class Deadline:
    """A moment by which a call must have its answer; it covers all tries and all parts of the call."""

    def __init__(self, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise InputError(f"a deadline must be above 0 seconds, not {timeout_s:g}")
        self.timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    def left(self) -> float:
        """Seconds left; 0 or below when it has passed."""
        return self._end - time.monotonic()

    def require(self, url: str, what: str) -> float:
        """Seconds left. Raises ServingError when there are none."""
        left = self.left()
        if left <= 0:
            raise late(url, what, self)
        return left


def late(url: str, what: str, deadline: Deadline | None = None) -> ServingError:
    within = f" within {deadline.timeout_s:g} s" if deadline else " in time"
    return ServingError(f"Triton at {url} did not answer{within} ({what})")


def check_address(url: str) -> None:
    """Raises InputError unless ``url`` is host:port."""
    host, _, port = url.rpartition(":")
    if "/" in url or not host or not port.isdigit():
        raise InputError(f"bad server address {url!r}: write host:port")


def away(text: str) -> Away:
    """In words, why a server is away."""
    if "maximum queue size" in text:
        return Away("its queue is full (send less at a time, or add instances)")
    return Away("no answer (is the server up? `posewatch status`)")


def refusal(url: str, what: str, text: str, deadline: Deadline, *, unavailable: bool) -> Exception:
    """The error for a server's refusal ``text``; ``unavailable`` says that the server called itself so."""
    text = " ".join(text.replace(_NO_ID, "").split())
    if "timeout expired" in text.lower():
        return late(url, what, deadline)
    final = ("not ready", "unknown model", "no available versions")
    if unavailable and not any(part in text for part in final):
        return away(text)
    return ServingError(f"Triton at {url}, {what}: {text}")


def http_refusal(url: str, what: str, status: int, body: bytes, deadline: Deadline) -> Exception:
    """The error for an HTTP answer that is none."""
    try:
        text = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        text = f"HTTP {status}"
    return refusal(url, what, text, deadline, unavailable=status in RETRYABLE_HTTP)


def http_request(inputs: Arrays, left_s: float) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an inference request with binary tensors; the server drops it ``left_s`` seconds later."""
    raw = [np.ascontiguousarray(array).tobytes() for array in inputs.values()]
    described = [
        {
            "name": name,
            "shape": array.shape,
            "datatype": NAMES[array.dtype],
            "parameters": {"binary_data_size": len(data)},
        }
        for (name, array), data in zip(inputs.items(), raw, strict=True)
    ]
    parameters = {"binary_data_output": True, "timeout": microseconds(left_s)}
    head = json.dumps({"inputs": described, "parameters": parameters}).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_SIZE: str(len(head))}
    return b"".join((head, *raw)), headers


def http_answer(headers: Mapping[str, str], body: bytes) -> Arrays:
    """The output tensors of an inference answer; a server without the binary extension answers in JSON."""
    start = int(headers.get(HEADER_SIZE, len(body)))
    outputs: Arrays = {}
    for output in json.loads(body[:start])["outputs"]:
        kind, shape = DTYPES[output["datatype"]], output["shape"]
        count = output.get("parameters", {}).get("binary_data_size")
        if count is None:
            outputs[output["name"]] = np.array(output["data"], kind).reshape(shape)
            continue
        outputs[output["name"]] = np.frombuffer(body[start : start + count], kind).reshape(shape).copy()
        start += count
    return outputs


def microseconds(seconds: float) -> int:
    """A request's time to live as Triton counts it: at least 1, for 0 would mean for ever."""
    return max(1, int(seconds * 1e6))
