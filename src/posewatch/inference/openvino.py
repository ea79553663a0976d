"""An exported model, run by OpenVINO in this process: what Triton with that accelerator is compared with."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.predictor import Predictor, check_clips, prediction
from posewatch.inference.quantised import as_sent
from posewatch.records import Prediction

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoPredictor(Predictor):
    """The model of an ONNX file on the CPU; each calling thread has its own instance, as in the embedded Triton.

    ``folder`` holds the package (``ensure_openvino``). Raises InputError if it cannot be imported.
    """

    def __init__(self, path: Path, folder: Path, precision: str = "fp32", threads: int = 1) -> None:
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        try:
            import openvino
        except ImportError as error:
            raise InputError(f"OpenVINO cannot be used in this process: {error}") from None
        self._core, self._path = openvino.Core(), path
        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": HINTS[precision],
        }
        exact = OnnxPredictor(path)
        self.labels, self.shape, self.metadata = exact.labels, exact.shape, exact.metadata
        self._thread = threading.local()

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        check_clips(keypoints, self.shape, self._path.name)
        if not hasattr(self._thread, "request"):
            model = self._core.compile_model(self._core.read_model(str(self._path)), "CPU", self._settings)
            self._thread.request = model.create_infer_request()
            self._thread.ports = {name: port for port in model.outputs for name in port.get_names()}
        results: Any = self._thread.request.infer(
            {"keypoints": np.ascontiguousarray(as_sent(keypoints, self.metadata))}
        )
        outputs = {name: np.array(results[port]) for name, port in self._thread.ports.items()}
        return prediction([outputs], len(keypoints), self.labels, self._path.name)
