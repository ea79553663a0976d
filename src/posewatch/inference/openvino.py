"""A model run by OpenVINO in this process: what Triton with that accelerator is compared with."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError
from posewatch.inference.model_info import check_clips, prediction
from posewatch.inference.predictors import OnnxPredictor
from posewatch.records import Prediction

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoPredictor:
    """An exported model, on the CPU; each thread that asks has an instance of its own, as in the embedded Triton.

    ``folder`` holds the package (``ensure_openvino``). Raises InputError when it cannot be imported here.
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
        self.people, self.frames = exact.people, exact.frames
        self._own = threading.local()

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        """Clips (N, M, T, V, 3)."""
        check_clips(keypoints, self.shape, self._path.name)
        if not hasattr(self._own, "request"):
            model = self._core.compile_model(self._core.read_model(str(self._path)), "CPU", self._settings)
            self._own.request = model.create_infer_request()
            self._own.ports = {name: port for port in model.outputs for name in port.get_names()}
        found: Any = self._own.request.infer({"keypoints": np.ascontiguousarray(keypoints)})
        answers = {name: np.array(found[port]) for name, port in self._own.ports.items()}
        return prediction([answers], len(keypoints), self.labels, self._path.name)

    def close(self) -> None:
        """Nothing to close."""
