"""Predictors: one protocol for a model in this process (PyTorch, ONNX Runtime) and a model served by Triton.

The benchmark, the smoke test and the labeling service all take a ``Predictor`` and need not know which.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, ServingError
from posewatch.records import Prediction
from posewatch.serving import triton
from posewatch.serving.repository import parse_labels

CHUNK = 32
"""Clips that ONNX Runtime and PyTorch take at once; more are cut into parts."""
Self = TypeVar("Self", bound="_Closing")


class Predictor(Protocol):
    """A recogniser. ``predict`` takes float32 keypoints (N, M, T, V, 3), x, y in pixels and a score; may be called from
    many threads at once. Raises InputError for another shape, ServingError when there is no answer.
    """

    @property
    def labels(self) -> tuple[str, ...]: ...

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction: ...

    def close(self) -> None: ...


class _Closing:
    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what is held."""


class ConstantPredictor(_Closing):
    """The double: says the same of every clip. ``probabilities`` are K numbers that sum to 1 (default: all equal)."""

    def __init__(self, labels: Sequence[str], probabilities: Sequence[float] | None = None) -> None:
        self.labels = tuple(labels)
        share = [1 / len(labels)] * len(labels) if probabilities is None else list(probabilities)
        self._row = np.array([share], np.float32)

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        _check(keypoints, None, "this predictor")
        return Prediction(
            np.repeat(self._row, len(keypoints), 0), self.labels, np.zeros((len(keypoints), 1), np.float32)
        )


class TorchPredictor(_Closing):
    """A torch module that maps keypoints (N, M, T, V, 3) to (probabilities (N, K), embedding (N, D)), run eagerly."""

    def __init__(self, module: Any, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._module = module.eval()

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        import torch

        _check(keypoints, None, "this model")

        def run(part: NDArray[np.float32]) -> triton.Arrays:
            with torch.inference_mode():
                probabilities, embedding = self._module(torch.from_numpy(np.ascontiguousarray(part)))
            return {"probabilities": probabilities.numpy(), "embedding": embedding.numpy()}

        return _predict(keypoints, CHUNK, self.labels, "the PyTorch model", run)


class OnnxPredictor(_Closing):
    """An exported model in this process. ``threads`` is ONNX Runtime's number per operator.

    ``people`` (M), ``frames`` (T), ``shape`` (M, T, V, 3) and ``metadata`` come from the file. Raises InputError when
    it is not a posewatch model.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        import onnxruntime as ort

        if not Path(path).is_file():
            raise InputError(f"no such ONNX file: {path}")
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class
            raise InputError(f"{path} is not a model that ONNX Runtime can run: {str(error).splitlines()[0]}") from None
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self.labels = parse_labels(self.metadata.get("labels", ""), str(path))
        found = {i.name: i.shape for i in self._session.get_inputs()}
        if "keypoints" not in found:
            raise InputError(f"{path} has no input 'keypoints': it is not a posewatch model")
        self._outputs = [o.name for o in self._session.get_outputs()]
        self.shape = tuple(int(d) for d in found["keypoints"][1:])
        self.people, self.frames = self.shape[:2]
        self._what = f"{Path(path).name}"

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        _check(keypoints, self.shape, self._what)

        def run(part: NDArray[np.float32]) -> triton.Arrays:
            return dict(zip(self._outputs, self._session.run(self._outputs, {"keypoints": part}), strict=True))

        return _predict(keypoints, CHUNK, self.labels, self._what, run)


class TritonPredictor(_Closing):
    """A model served by Triton at ``url`` (host:port). Connects, and asks what the model takes, when it is made.

    Raises ServingError when the server is away, the model is unknown or not loaded, a request is refused, or no answer
    comes within ``timeout_s`` seconds. Close it when done: an open connection delays the server's shutdown.
    """

    def __init__(
        self, url: str, model: str, protocol: str = "grpc", *, timeout_s: float = 30.0, retries: int = 3
    ) -> None:
        self.model, self._what = model, f"model {model!r} at {url}"
        self._connection = triton.connect(url, protocol, timeout_s, retries)
        try:
            self.server_version = self._connection.version()
            _require_ready(self._connection, url, model)
            config = self._connection.config(model)
        except BaseException:
            self._connection.close()
            raise
        told = config.get("parameters", {})
        self.labels = parse_labels(told.get("labels", {}).get("string_value", ""), self._what)
        self.max_batch = max(1, int(config.get("max_batch_size", 1)))
        self.batching = "dynamic_batching" in config
        self.shape = tuple(int(d) for d in config["input"][0]["dims"])
        self.people, self.frames = self.shape[:2]

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        _check(keypoints, self.shape, self._what)

        def run(part: NDArray[np.float32]) -> triton.Arrays:
            return self._connection.infer(self.model, {"keypoints": part})

        return _predict(keypoints, self.max_batch, self.labels, self._what, run)

    def close(self) -> None:
        self._connection.close()


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
    """Totals since the load: ``inferences`` (clips), ``executions`` (batches run), ``requests`` and ``failed`` ones."""
    connection = triton.connect(url, protocol)
    try:
        found = connection.statistics(name)
    finally:
        connection.close()
    told = found.get("inference_stats", {})
    return {
        "inferences": int(found.get("inference_count", 0)),
        "executions": int(found.get("execution_count", 0)),
        "requests": int(told.get("success", {}).get("count", 0)),
        "failed": int(told.get("fail", {}).get("count", 0)),
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


def _require_ready(connection: triton.Connection, url: str, model: str) -> None:
    if connection.ready(model):
        return
    rows = connection.index()
    served = sorted(row["name"] for row in rows if row.get("state") == "READY")
    reason = next((row.get("reason", "") for row in rows if row["name"] == model and row.get("state") != "READY"), "")
    why = f" ({' '.join(reason.split())})" if reason else ""
    raise ServingError(f"Triton at {url} serves no model {model!r}{why}; it serves: {', '.join(served) or 'none'}")


def _check(keypoints: NDArray[np.float32], shape: tuple[int, ...] | None, what: str) -> None:
    given = tuple(np.shape(keypoints))
    wanted = "(N, M, T, V, 3)" if shape is None else f"(N, {', '.join(map(str, shape))})"
    fits = len(given) == 5 and given[4] == 3 if shape is None else given[1:] == shape and len(given) == 5
    if not fits:
        raise InputError(f"{what} takes keypoints of shape {wanted}, not {given}")
    if keypoints.dtype != np.float32:
        raise InputError(f"{what} takes float32 keypoints, not {keypoints.dtype}")


def _predict(keypoints: NDArray[np.float32], most: int, labels: tuple[str, ...], what: str, run: Any) -> Prediction:
    parts = [run(keypoints[i : i + most]) for i in range(0, len(keypoints), most)]
    if not parts:
        return Prediction(np.zeros((0, len(labels)), np.float32), labels)
    probabilities = np.concatenate([part["probabilities"] for part in parts])
    if probabilities.shape != (len(keypoints), len(labels)):
        raise ServingError(f"{what} answered with the shape {probabilities.shape}, not {(len(keypoints), len(labels))}")
    if not np.isfinite(probabilities).all():
        raise ServingError(f"{what} answered with NaN: does the input hold NaN or infinite values?")
    embedding = np.concatenate([part["embedding"] for part in parts]) if "embedding" in parts[0] else None
    return Prediction(probabilities, labels, embedding)
