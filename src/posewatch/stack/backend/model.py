"""Triton backend ``onnxruntime`` in Python: serves ``<version>/model.onnx`` where the native backend is not installed.

Runs inside Triton's Python stub. Like the native backend it runs the requests of one execution as one batch, so the
same ``config.pbtxt`` works here and in the Triton container.
"""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

# `optimization { graph { level } }` as the native backend reads it
_LEVELS = {
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _parameters(config: dict[str, Any]) -> dict[str, str]:
    """The model's parameters."""
    return {key: value["string_value"] for key, value in config.get("parameters", {}).items()}


def _openvino(config: dict[str, Any]) -> dict[str, Any] | None:
    """The accelerator ``openvino`` of the config; None when it is not used."""
    accelerators = (config.get("optimization") or {}).get("execution_accelerators") or {}
    rows = accelerators.get("cpu_execution_accelerator") or []
    return next((row for row in rows if row.get("name") == "openvino"), None)


class OpenVino:
    """A model run by OpenVINO, behind the part of ONNX Runtime's session that we use.

    Each instance has its own threads. They are not pinned to cores: two instances would share the first core.
    """

    def __init__(self, path: str, config: dict[str, Any]) -> None:
        folder = os.environ.get("POSEWATCH_OPENVINO", "")
        if folder and folder not in sys.path:
            sys.path.append(folder)
        try:
            import openvino as ov
        except ImportError:
            raise RuntimeError("it is not installed (posewatch install openvino)") from None
        wanted = (_openvino(config) or {}).get("parameters", {}).get("precision_mode", "FP32")
        settings = {
            "INFERENCE_NUM_THREADS": int(_parameters(config).get("intra_op_thread_count", 1)) or 1,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": {"BF16": "bf16", "FP16": "f16"}.get(wanted, "f32"),
        }
        model = ov.Core().compile_model(ov.Core().read_model(path), "CPU", settings)
        self._ports = {name: port for port in model.outputs for name in port.get_names()}
        self._names = [next(iter(port.get_names())) for port in model.inputs]
        self._request = model.create_infer_request()

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self._names]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self._ports]

    def run(self, outputs: list[str], feed: dict[str, Any]) -> list[Any]:
        results = self._request.infer({name: np.ascontiguousarray(array) for name, array in feed.items()})
        return [np.array(results[self._ports[name]]) for name in outputs]


class TritonPythonModel:
    """One instance of one model; Triton calls ``initialize``, ``execute`` and ``finalize``."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the ONNX file. An error here fails the load, and its text is the reason."""
        config = json.loads(args["model_config"])
        file = config.get("default_model_filename") or "model.onnx"
        path = os.path.join(args["model_repository"], args["model_version"], file)
        if not os.path.isfile(path):
            raise pb_utils.TritonModelException(f"no such file: {path}")
        runtime = "OpenVINO" if _openvino(config) else "ONNX Runtime"
        try:
            if runtime == "OpenVINO":
                self._session: Any = OpenVino(path, config)
            else:
                options = self._options(config)
                self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise pb_utils.TritonModelException(
                f"{file} is not a model that {runtime} can run: {_first_line(error)}"
            ) from None
        self._inputs = [i["name"] for i in config["input"]]
        self._outputs = [o["name"] for o in config["output"]]
        self._batched = config.get("max_batch_size", 0) > 0
        for kind, configured, known in (
            ("input", self._inputs, [i.name for i in self._session.get_inputs()]),
            ("output", self._outputs, [o.name for o in self._session.get_outputs()]),
        ):
            unknown = sorted(set(configured) - set(known))
            if unknown:
                raise pb_utils.TritonModelException(
                    f"{kind} {unknown[0]!r} of config.pbtxt is not in {file}: it has {known}"
                )

    @staticmethod
    def _options(config: dict[str, Any]) -> ort.SessionOptions:
        parameters = _parameters(config)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 0))
        options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", 0))
        level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
        options.graph_optimization_level = _LEVELS[level]
        return options

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in order."""
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        if not self._batched or len(feeds) == 1:
            return [self._alone(feed) for feed in feeds]
        counts = [len(feed[self._inputs[0]]) for feed in feeds]
        try:
            merged = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
            results = self._session.run(self._outputs, merged)
        except Exception:
            # One bad request must not fail the others: run each alone.
            return [self._alone(feed) for feed in feeds]
        cuts = np.cumsum(counts)[:-1]
        parts = zip(*(np.split(result, cuts) for result in results), strict=True)
        return [self._response(part) for part in parts]

    def _alone(self, feed: dict[str, Any]) -> Any:
        try:
            return self._response(self._session.run(self._outputs, feed))
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"the model failed: {_first_line(error)}"))

    def _response(self, results: Any) -> Any:
        tensors = [pb_utils.Tensor(n, np.ascontiguousarray(r)) for n, r in zip(self._outputs, results, strict=True)]
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def finalize(self) -> None:
        """Drop the session."""
        self._session = None
