"""Triton backend ``onnxruntime`` in Python: serves ``<version>/model.onnx`` where the native backend is not installed.

Runs inside Triton's Python stub. Like the native backend it runs the requests of one execution as one batch, so the
same ``config.pbtxt`` works here and in the Triton container. A batch that takes long is computed in portions: a CPU
core that is busy with one clip saves nothing by more at a time, and who came first need not wait for the last.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
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


_PORTION_S = 0.02
"""A batch is computed in portions of about so many seconds; what a call costs by itself is little beside that."""


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


def _openvino_model(path: str, config: dict[str, Any]) -> Any:
    """A model run by OpenVINO. Raises RuntimeError where it is not installed."""
    from openvino_model import OpenVinoModel

    wanted = (_openvino(config) or {}).get("parameters", {}).get("precision_mode", "FP32")
    try:
        return OpenVinoModel(
            path,
            folder=os.environ.get("POSEWATCH_OPENVINO", ""),
            precision={"BF16": "bf16", "FP16": "f16"}.get(wanted, "f32"),
            threads=int(_parameters(config).get("intra_op_thread_count", 1)) or 1,
            max_batch=config.get("max_batch_size", 0) or 1,
        )
    except ImportError:
        raise RuntimeError("it is not installed (posewatch install openvino)") from None


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
                self._session: Any = _openvino_model(path, config)
                inputs, outputs = self._session.inputs, self._session.outputs
            else:
                options = self._options(config)
                self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
                inputs, outputs = (
                    [p.name for p in ports] for ports in (self._session.get_inputs(), self._session.get_outputs())
                )
        except Exception as error:
            raise pb_utils.TritonModelException(
                f"{file} is not a model that {runtime} can run: {_first_line(error)}"
            ) from None
        self._inputs = [i["name"] for i in config["input"]]
        self._outputs = [o["name"] for o in config["output"]]
        self._batched = config.get("max_batch_size", 0) > 0
        self._clip_s = 0.0
        """How long a clip took in the last batches, in seconds."""
        for kind, configured, known in (
            ("input", self._inputs, inputs),
            ("output", self._outputs, outputs),
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

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """One response per request, in order; None when they were sent already, portion by portion."""
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        if not self._batched or len(feeds) == 1:
            return [self._alone(feed) for feed in feeds]
        portions = self._portions([len(feed[self._inputs[0]]) for feed in feeds])
        if len(portions) == 1:
            return self._together(feeds)
        for portion in portions:
            for i, response in zip(portion, self._together([feeds[i] for i in portion]), strict=True):
                requests[i].get_response_sender().send(response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None

    def _portions(self, counts: Sequence[int]) -> list[list[int]]:
        """The requests of a batch, which have so many clips, in groups that take ``_PORTION_S`` or hold one request."""
        portions: list[list[int]] = []
        clips = 0
        for i, count in enumerate(counts):
            clips += count
            if not portions or clips * self._clip_s > _PORTION_S:
                portions.append([])
                clips = count
            portions[-1].append(i)
        return portions

    def _together(self, feeds: Sequence[dict[str, Any]]) -> list[Any]:
        """The responses to several requests, computed as one batch."""
        counts = [len(feed[self._inputs[0]]) for feed in feeds]
        began = time.perf_counter()
        try:
            merged = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
            results = self._session.run(self._outputs, merged)
        except Exception:
            # One bad request must not fail the others: run each alone.
            return [self._alone(feed) for feed in feeds]
        self._clip_s += 0.2 * ((time.perf_counter() - began) / max(1, sum(counts)) - self._clip_s)
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
