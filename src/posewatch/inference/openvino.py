"""An exported model, run by OpenVINO in this process: what Triton with that accelerator is compared with."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.openvino_model import OpenVinoModel, package
from posewatch.inference.predictor import Predictor, check_clips, prediction
from posewatch.inference.quantised import as_sent
from posewatch.records import Prediction

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoPredictor(Predictor):
    """The model of an ONNX file on the CPU; each calling thread has its own instance, as in the embedded Triton.

    ``folder`` holds the package (``ensure_openvino``). Raises InputError if it cannot be imported.
    """

    def __init__(self, path: Path, folder: Path, precision: str = "fp32", threads: int = 1) -> None:
        self._path = path
        self._how: dict[str, Any] = {"folder": str(folder), "precision": HINTS[precision], "threads": threads}
        exact = OnnxPredictor(path)
        self.labels, self.shape, self.metadata = exact.labels, exact.shape, exact.metadata
        self._thread = threading.local()
        try:
            package(str(folder))
        except ImportError as error:
            raise InputError(f"OpenVINO cannot be used in this process: {error}") from None

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        check_clips(keypoints, self.shape, self._path.name)
        model = self._model()
        results = model.run(model.outputs, {"keypoints": as_sent(keypoints, self.metadata)})
        outputs = dict(zip(model.outputs, results, strict=True))
        return prediction([outputs], len(keypoints), self.labels, self._path.name)

    def _model(self) -> OpenVinoModel:
        """This thread's own."""
        if not hasattr(self._thread, "model"):
            self._thread.model = OpenVinoModel(str(self._path), **self._how)
        model: OpenVinoModel = self._thread.model
        return model
