"""An exported model, run by ONNX Runtime in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, first_line
from posewatch.inference.predictor import Predictor, batches, check_clips, clip_shape, parse_labels, prediction
from posewatch.inference.quantised import as_sent
from posewatch.records import Prediction


class OnnxPredictor(Predictor):
    """The model of an ONNX file; ``threads`` is the number that ONNX Runtime uses per operator.

    Raises InputError for a file that is missing, or is not a model of posewatch.
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
            raise InputError(f"{path} is not a model that ONNX Runtime can run: {first_line(error)}") from None
        inputs = {i.name: i.shape for i in self._session.get_inputs()}
        if "keypoints" not in inputs:
            raise InputError(f"{path} has no input 'keypoints': it is not a posewatch model")
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self.labels = parse_labels(self.metadata.get("labels", ""), str(path))
        self.shape = clip_shape(inputs["keypoints"][1:], str(path))
        self._outputs = [o.name for o in self._session.get_outputs()]
        self._name = Path(path).name

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        check_clips(keypoints, self.shape, self._name)
        outputs = [
            dict(
                zip(
                    self._outputs,
                    self._session.run(self._outputs, {"keypoints": as_sent(batch, self.metadata)}),
                    strict=True,
                )
            )
            for batch in batches(keypoints)
        ]
        return prediction(outputs, len(keypoints), self.labels, self._name)
