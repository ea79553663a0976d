"""Manages the models of a Triton server: load, unload, a health check that predicts, statistics."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from posewatch.errors import ServingError
from posewatch.inference.triton_client import Connection, connect

UNLOAD_S = 30.0


def load_model(url: str, name: str, protocol: str = "grpc") -> None:
    """Load (or reload) a model of the server's repository and check that it answers.

    A model that is loaded and does not answer, because one of its processes was killed, is unloaded first. Raises
    ServingError with the server's reason.
    """
    with closing(connect(url, protocol)) as connection:
        if connection.ready(name) and not _answers(connection, name):
            _unload(connection, name)
        connection.load(name)


def unload_model(url: str, name: str, protocol: str = "grpc") -> None:
    """Unload a model and wait until that is done. Raises ServingError if the server refuses."""
    with closing(connect(url, protocol)) as connection:
        _unload(connection, name)


def model_ready(url: str, name: str, protocol: str = "grpc") -> bool:
    """Whether the model is loaded *and* answers: a Triton whose model process was killed still reports "ready"."""
    with closing(connect(url, protocol, timeout_s=10.0)) as connection:
        return connection.ready(name) and _answers(connection, name)


def statistics(url: str, name: str, protocol: str = "grpc") -> dict[str, int]:
    """Totals since the load: ``inferences`` (clips), ``executions`` (batches run), ``requests`` and ``failed`` ones.

    Of the answered requests, nanoseconds in all: ``total_ns``, of which ``queue_ns`` waiting and ``compute_ns`` in the
    model, its inputs and outputs included.
    """
    with closing(connect(url, protocol)) as connection:
        counts = connection.statistics(name)

    def of(key: str, field: str) -> int:
        return int(counts.get("inference_stats", {}).get(key, {}).get(field, 0))

    return {
        "inferences": int(counts.get("inference_count", 0)),
        "executions": int(counts.get("execution_count", 0)),
        "requests": of("success", "count"),
        "failed": of("fail", "count"),
        "total_ns": of("success", "ns"),
        "queue_ns": of("queue", "ns"),
        "compute_ns": sum(of(key, "ns") for key in ("compute_input", "compute_infer", "compute_output")),
    }


def _unload(connection: Connection, name: str) -> None:
    from posewatch.stack.process import wait_until

    connection.unload(name)
    if not wait_until(lambda: not connection.ready(name), UNLOAD_S):
        raise ServingError(f"model {name!r} does not unload: restart the server")


def _answers(connection: Connection, name: str) -> bool:
    """Whether the model answers one clip of zeros."""
    try:
        config = connection.config(name)
        shape = (1, *(int(d) for d in config["input"][0]["dims"]))
        kind = np.uint16 if config["input"][0].get("data_type") == "TYPE_UINT16" else np.float32
        connection.infer(name, {config["input"][0]["name"]: np.zeros(shape, kind)})
    except ServingError:
        return False
    return True
