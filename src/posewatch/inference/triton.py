"""A model served by Triton, over gRPC or HTTP."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, ServingError
from posewatch.inference import triton_client
from posewatch.inference.predictor import (
    METADATA,
    Predictor,
    batches,
    check_clips,
    clip_shape,
    parse_labels,
    prediction,
)
from posewatch.inference.quantised import as_sent, takes_quantised
from posewatch.inference.wire import Deadline, understood
from posewatch.records import Prediction

CHECK_S = 5.0
"""How long an answer about the version holds."""
CHECK_TIMEOUT_S = 2.0


class TritonPredictor(Predictor):
    """A model served by Triton at ``url`` (host:port). Creating one connects, and reads the model's config.

    ``max_batch`` clips fit into one request; ``batching`` is whether the server batches requests.

    Raises ServingError if the server is unavailable, the model is unknown, not loaded or not one of posewatch, a
    request is refused, or a call has no answer within ``timeout_s`` seconds, its at most ``retries`` repetitions
    included. The server drops requests that wait beyond that. An open connection delays the server's shutdown.
    """

    def __init__(
        self, url: str, model: str, protocol: str = "grpc", *, timeout_s: float = 30.0, retries: int = 3
    ) -> None:
        self.url, self.model, self.name, self.timeout_s = url, model, f"model {model!r} at {url}", timeout_s
        self._connection = triton_client.connect(url, protocol, timeout_s, retries)
        self._asked = time.monotonic()
        try:
            self.server_version = self._connection.version()
            if not self._connection.ready(model):
                try:
                    rows = self._connection.index()
                except ServingError:  # many servers keep their repository from clients
                    raise ServingError(f"Triton at {url}: the model {model!r} is not ready, or not there") from None
                raise understood(url, "index", lambda: _not_served(url, model, rows))
            self._read(self._connection.config(model))
        except BaseException:
            self._connection.close()
            raise

    def _read(self, config: Mapping[str, Any]) -> None:
        """Take labels, shape and metadata from the model's config. Raises ServingError for a model of another kind."""
        understood(self.url, self.model, lambda: self._take(config))

    def _take(self, config: Mapping[str, Any]) -> None:
        parameters = {k: str(v.get("string_value", "")) for k, v in config.get("parameters", {}).items()}
        inputs, outputs = config.get("input", []), {o["name"]: o for o in config.get("output", [])}
        if [i["name"] for i in inputs] != ["keypoints"] or "probabilities" not in outputs:
            names = [i["name"] for i in inputs]
            raise ServingError(f"{self.name} is not a posewatch model: it takes {names} and gives {list(outputs)}")
        wanted = "TYPE_UINT16" if takes_quantised(parameters) else "TYPE_FP32"
        if inputs[0].get("data_type") != wanted:
            kind = inputs[0].get("data_type")
            raise ServingError(f"{self.name} takes {kind} keypoints, not {wanted}: publish it again")
        try:
            self.labels = parse_labels(parameters.get("labels", ""), self.name)
            self.shape = clip_shape([int(d) for d in inputs[0]["dims"]], self.name)
        except InputError as error:
            raise ServingError(str(error)) from None
        classes = [int(d) for d in outputs["probabilities"]["dims"]]
        if classes != [len(self.labels)]:
            raise ServingError(
                f"{self.name} names {len(self.labels)} classes but answers with {classes}: publish it again"
            )
        self.metadata = {key: parameters[key] for key in (*METADATA, "release") if key in parameters}
        self.max_batch = max(1, int(config.get("max_batch_size", 1)))
        self.batching = "dynamic_batching" in config

    def select(self, *, fresh: bool = False) -> bool:
        """See ``Predictor``: behind the same address another version may answer, after a rollout. It is asked for every
        ``CHECK_S`` seconds; a server that does not answer counts as unchanged."""
        now = time.monotonic()
        if not fresh and now < self._asked + CHECK_S:
            return False
        self._asked, before = now, (self.shape, self.labels, self.metadata)
        try:
            config = self._connection.config(self.model, Deadline(CHECK_TIMEOUT_S))
        except ServingError:
            return False
        self._read(config)
        return (self.shape, self.labels, self.metadata) != before

    def predict(self, keypoints: NDArray[np.float32], timeout_s: float | None = None) -> Prediction:
        """See ``Predictor``; ``timeout_s`` is the deadline of this call in seconds, for all its batches together."""
        check_clips(keypoints, self.shape, self.name)
        deadline = Deadline(self.timeout_s if timeout_s is None else timeout_s)
        outputs = [
            self._connection.infer(self.model, {"keypoints": as_sent(batch, self.metadata)}, deadline)
            for batch in batches(keypoints, self.max_batch)
        ]
        return prediction(outputs, len(keypoints), self.labels, self.name)

    def close(self) -> None:
        self._connection.close()


def _not_served(url: str, model: str, rows: Sequence[Mapping[str, Any]]) -> ServingError:
    """The error for a model that is not ready, from the rows of the server's repository index."""
    ready = sorted(row["name"] for row in rows if row.get("state") == "READY")
    reason = next((row.get("reason", "") for row in rows if row["name"] == model and row.get("state") != "READY"), "")
    why = f" ({' '.join(reason.split())})" if reason else ""
    return ServingError(f"Triton at {url} serves no model {model!r}{why}; it serves: {', '.join(ready) or 'none'}")
