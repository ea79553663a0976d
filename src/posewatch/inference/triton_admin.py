"""What is done to a Triton server's models: load, unload, a health check that asks something, what it counted."""

from __future__ import annotations

import numpy as np

from posewatch.errors import ServingError
from posewatch.inference import triton_client as triton


def load_model(url: str, name: str, protocol: str = "grpc") -> None:
    """Load (or load anew) a model of the server's repository and see that it answers.

    A model that is loaded and does not answer, because one of its processes was killed, is unloaded first. Raises
    ServingError with the server's reason.
    """
    connection = triton.connect(url, protocol)
    try:
        if connection.ready(name) and not _answers(connection, name):
            _unload(connection, name)
        connection.load(name)
    finally:
        connection.close()


def unload_model(url: str, name: str, protocol: str = "grpc") -> None:
    """Unload a model and wait until it is gone. Raises ServingError when the server refuses."""
    connection = triton.connect(url, protocol)
    try:
        _unload(connection, name)
    finally:
        connection.close()


def model_ready(url: str, name: str, protocol: str = "grpc") -> bool:
    """Whether the model is loaded *and* answers: a Triton whose model process was killed still says "ready"."""
    connection = triton.connect(url, protocol, timeout_s=10.0)
    try:
        return connection.ready(name) and _answers(connection, name)
    finally:
        connection.close()


def statistics(url: str, name: str, protocol: str = "grpc") -> dict[str, int]:
    """Totals since the load: ``inferences`` (clips), ``executions`` (batches run), ``requests`` and ``failed`` ones.

    Of the answered requests, nanoseconds altogether: ``total_ns``, of that ``queue_ns`` waiting and ``compute_ns`` in
    the model, its inputs and outputs included.
    """
    connection = triton.connect(url, protocol)
    try:
        found = connection.statistics(name)
    finally:
        connection.close()
    told = found.get("inference_stats", {})

    def of(key: str, what: str) -> int:
        return int(told.get(key, {}).get(what, 0))

    return {
        "inferences": int(found.get("inference_count", 0)),
        "executions": int(found.get("execution_count", 0)),
        "requests": of("success", "count"),
        "failed": of("fail", "count"),
        "total_ns": of("success", "ns"),
        "queue_ns": of("queue", "ns"),
        "compute_ns": sum(of(key, "ns") for key in ("compute_input", "compute_infer", "compute_output")),
    }


def _unload(connection: triton.Connection, name: str) -> None:
    from posewatch.stack.process import wait_until

    connection.unload(name)
    if not wait_until(lambda: not connection.ready(name), 30.0):
        raise ServingError(f"model {name!r} does not unload: restart the server")


def _answers(connection: triton.Connection, name: str) -> bool:
    """A canary: one inference of zeros."""
    try:
        config = connection.config(name)
        shape = (1, *(int(d) for d in config["input"][0]["dims"]))
        connection.infer(name, {config["input"][0]["name"]: np.zeros(shape, np.float32)})
    except ServingError:
        return False
    return True
