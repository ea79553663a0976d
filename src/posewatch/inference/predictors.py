"""Predictors: one protocol for a model in this process (PyTorch, ONNX Runtime) and a model served by Triton.

The benchmark, the smoke test and the labeling service all take a ``Predictor`` and need not know which;
``open_predictor`` makes the right one. ``client_async`` has the same for asyncio.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, ServingError
from posewatch.inference import triton_client as triton
from posewatch.inference.model_info import check_clips, not_served, parse_labels, parts_of, prediction, served
from posewatch.inference.triton_admin import load_model, model_ready, statistics, unload_model
from posewatch.inference.wire import Arrays, Deadline
from posewatch.records import Prediction

__all__ = [
    "ConstantPredictor",
    "OnnxPredictor",
    "Predictor",
    "TorchPredictor",
    "TritonPredictor",
    "load_model",
    "model_ready",
    "open_predictor",
    "parse_endpoint",
    "statistics",
    "unload_model",
]

CHUNK = 32
"""Clips that ONNX Runtime and PyTorch take at once; more are cut into parts."""
Self = TypeVar("Self", bound="_Closing")


class Predictor(Protocol):
    """A recogniser. ``predict`` takes float32 keypoints (N, M, T, V, 3), x, y in pixels and a score; may be called from
    many threads at once. Raises InputError for another shape, ServingError when there is no answer.

    ``metadata`` is what the model carries: layout, fps, positive, threshold, lineage, as far as it is known.
    """

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def metadata(self) -> dict[str, str]: ...

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
        self.metadata: dict[str, str] = {}
        share = [1 / len(labels)] * len(labels) if probabilities is None else list(probabilities)
        self._row = np.array([share], np.float32)

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        check_clips(keypoints, None, "this predictor")
        return Prediction(
            np.repeat(self._row, len(keypoints), 0), self.labels, np.zeros((len(keypoints), 1), np.float32)
        )


class TorchPredictor(_Closing):
    """A torch module that maps keypoints (N, M, T, V, 3) to (probabilities (N, K), embedding (N, D)), run eagerly.

    ``shape`` (M, T, V, 3) is checked where it is given; not ``trained``: of use for its speed only.
    """

    def __init__(
        self,
        module: Any,
        labels: Sequence[str],
        *,
        shape: tuple[int, ...] | None = None,
        metadata: dict[str, str] | None = None,
        trained: bool = True,
    ) -> None:
        self.labels, self.shape, self.metadata = tuple(labels), shape, dict(metadata or {})
        self.people, self.frames = shape[:2] if shape else (0, 0)
        self.trained = trained
        self._module = module.eval()

    @property
    def module(self) -> Any:
        """The torch module."""
        return self._module

    @classmethod
    def from_checkpoint(cls, path: Path) -> TorchPredictor:
        """The recogniser of a checkpoint. Raises InputError when it is none."""
        from posewatch.recognition.recogniser import load_checkpoint

        found = load_checkpoint(path)
        told = {"layout": found.layout.name, "fps": f"{found.fps:g}", "positive": found.positive}
        return cls(
            found,
            found.labels,
            shape=(found.people, found.frames, found.layout.observed, 3),
            metadata={**told, "threshold": f"{found.threshold:g}"},
        )

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        import torch

        check_clips(keypoints, self.shape, "this model")

        def run(part: NDArray[np.float32]) -> Arrays:
            with torch.inference_mode():
                probabilities, embedding = self._module(torch.from_numpy(np.ascontiguousarray(part)))
            return {"probabilities": probabilities.numpy(), "embedding": embedding.numpy()}

        parts = [run(part) for part in parts_of(keypoints, CHUNK)]
        return prediction(parts, len(keypoints), self.labels, "the PyTorch model")


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
        check_clips(keypoints, self.shape, self._what)
        parts = [
            dict(zip(self._outputs, self._session.run(self._outputs, {"keypoints": part}), strict=True))
            for part in parts_of(keypoints, CHUNK)
        ]
        return prediction(parts, len(keypoints), self.labels, self._what)


class TritonPredictor(_Closing):
    """A model served by Triton at ``url`` (host:port). Connects, and asks what the model takes, when it is made.

    Raises ServingError when the server is away, the model is unknown, not loaded or not one of ours, a request is
    refused, or a call has no answer within ``timeout_s`` seconds, its at most ``retries`` repetitions included. The
    server drops what waits beyond that. Close it when done: an open connection delays the server's shutdown.
    """

    def __init__(
        self, url: str, model: str, protocol: str = "grpc", *, timeout_s: float = 30.0, retries: int = 3
    ) -> None:
        self.model, self._what, self._timeout = model, f"model {model!r} at {url}", timeout_s
        self._connection = triton.connect(url, protocol, timeout_s, retries)
        try:
            self.server_version = self._connection.version()
            if not self._connection.ready(model):
                raise not_served(url, model, self._connection.index())
            self.told = served(self._connection.config(model), self._what)
        except BaseException:
            self._connection.close()
            raise
        self.labels, self.shape, self.metadata = self.told.labels, self.told.shape, self.told.metadata
        self.max_batch, self.batching = self.told.max_batch, self.told.batching
        self.people, self.frames = self.shape[:2]

    def predict(self, keypoints: NDArray[np.float32], timeout_s: float | None = None) -> Prediction:
        """As the protocol says; ``timeout_s`` is this call's own deadline in seconds, for all its parts together."""
        check_clips(keypoints, self.shape, self._what)
        deadline = Deadline(self._timeout if timeout_s is None else timeout_s)
        parts = [
            self._connection.infer(self.model, {"keypoints": part}, deadline)
            for part in parts_of(keypoints, self.max_batch)
        ]
        return prediction(parts, len(keypoints), self.labels, self._what)

    def close(self) -> None:
        self._connection.close()


def parse_endpoint(endpoint: str) -> tuple[str, str, str]:
    """``grpc://host:port/model`` → (protocol, host:port, model). Raises InputError."""
    scheme, _, rest = endpoint.partition("://")
    url, _, model = rest.partition("/")
    if scheme not in ("grpc", "http") or not url or not model or "/" in model:
        raise InputError(f"bad endpoint {endpoint!r}: write grpc://host:port/model or http://host:port/model")
    return scheme, url, model


def open_predictor(reference: str, *, timeout_s: float = 30.0, retries: int = 3, threads: int = 1) -> Any:
    """The predictor for an endpoint (grpc:// or http://host:port/model), an ONNX file or a checkpoint (.pt).

    Every one of them has ``labels``, ``shape``, ``people``, ``frames`` and ``metadata``. Raises InputError or
    ServingError.
    """
    if "://" in reference:
        protocol, url, model = parse_endpoint(reference)
        return TritonPredictor(url, model, protocol, timeout_s=timeout_s, retries=retries)
    path = Path(reference)
    if path.suffix == ".onnx":
        return OnnxPredictor(path, threads)
    if path.suffix in (".pt", ".pth"):
        return TorchPredictor.from_checkpoint(path)
    raise InputError(f"{reference!r} is no model: give grpc://host:port/model, http://..., a .onnx file or a .pt file")


def connect(endpoint: str) -> Any:
    """A predictor for ``grpc://host:port/model`` or ``http://host:port/model``."""

    if "://" not in endpoint:
        raise ServingError(f"bad endpoint {endpoint!r}: write grpc://host:port/model or http://host:port/model")
    return open_predictor(endpoint)
