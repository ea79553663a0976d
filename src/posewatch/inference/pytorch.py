"""A trained network, run by PyTorch in this process. No other module of this room imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posewatch.inference.predictor import OUTPUTS, Arrays, Predictor, Shape, batches, check_clips, prediction
from posewatch.records import Prediction
from posewatch.units import unit_entry

if TYPE_CHECKING:
    from posewatch.recognition.recogniser import Recogniser


class TorchPredictor(Predictor):
    """A torch ``module`` that maps keypoints (N, M, T, V, 3) to (probabilities (N, K), embedding (N, D))
    and perhaps novelty (N,), run eagerly, on the CPU unless ``to`` moves it.

    ``trained`` is False for random weights, which are of use for measuring speed only.
    """

    def __init__(
        self,
        module: Any,
        labels: Sequence[str],
        shape: Shape,
        *,
        metadata: dict[str, str] | None = None,
        trained: bool = True,
    ) -> None:
        self.labels, self.shape, self.metadata, self.trained = tuple(labels), shape, metadata or {}, trained
        self.module, self.device = module.eval(), "cpu"

    def to(self, device: str) -> TorchPredictor:
        """This predictor, on another device of torch ("cuda"): its module moves."""
        self.module, self.device = self.module.to(device), device
        return self

    @classmethod
    def from_recogniser(cls, recogniser: Recogniser, *, trained: bool = True) -> TorchPredictor:
        metadata = {
            "layout": recogniser.layout.name,
            "fps": f"{recogniser.fps:g}",
            "positive": recogniser.positive,
            "threshold": f"{recogniser.threshold:g}",
            "features": recogniser.config.features,
            "people_by": recogniser.people_by,
            **unit_entry(recogniser.unit),
        }
        shape = (recogniser.people, recogniser.frames, recogniser.layout.columns, 3)
        return cls(recogniser, recogniser.labels, shape, metadata=metadata, trained=trained)

    @classmethod
    def from_checkpoint(cls, path: Path) -> TorchPredictor:
        """The recogniser of a checkpoint file. Raises InputError for another file."""
        from posewatch.recognition.recogniser import load_checkpoint

        return cls.from_recogniser(load_checkpoint(path))

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        check_clips(keypoints, self.shape, "this model")
        outputs = [self._run(batch) for batch in batches(keypoints)]
        return prediction(outputs, len(keypoints), self.labels, "the PyTorch model")

    def _run(self, batch: NDArray[np.float32]) -> Arrays:
        import torch

        with torch.inference_mode():
            outputs = self.module(torch.from_numpy(np.ascontiguousarray(batch)).to(self.device))
        return {name: output.cpu().numpy() for name, output in zip(OUTPUTS, outputs, strict=False)}
