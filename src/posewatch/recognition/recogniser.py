"""A trained network with everything around it: keypoints in, probabilities out, and the rule that decides."""

from __future__ import annotations

import io
import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from posewatch.config import TrainConfig, from_dict
from posewatch.errors import InputError
from posewatch.layouts import Layout
from posewatch.recognition.features import Features
from posewatch.recognition.models import build
from posewatch.recognition.models.base import Output

VERSION = 1


class Recogniser(nn.Module):
    """Keypoints (N, M, T, V, 3) → probabilities (N, K) and embedding (N, D).

    ``labels`` K classes, ``positive`` the one that raises an alert from ``threshold`` on, ``frames`` T, ``people`` M,
    ``fps`` the frame rate of the training clips.
    """

    def __init__(
        self,
        config: TrainConfig,
        layout: Layout,
        labels: tuple[str, ...],
        positive: str,
        fps: float,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        if positive not in labels:
            raise InputError(f"the positive class {positive!r} is none of {', '.join(labels)}")
        self.config, self.layout, self.labels, self.positive = config, layout, labels, positive
        self.fps, self.threshold = fps, threshold
        self.features = Features(layout, config.frames, config.stream)
        self.network = build(
            config.model,
            layout=layout,
            classes=len(labels),
            width=config.width,
            prototypes=config.prototypes,
            in_channels=self.features.channels,
        )

    @property
    def frames(self) -> int:
        return self.config.frames

    @property
    def people(self) -> int:
        return self.config.people

    def run(self, keypoints: Tensor) -> Output:
        """Keypoints (N, M, T, V, 3) → the network's output."""
        features, present = self.features(keypoints)
        output: Output = self.network(features, present)
        return output

    def forward(self, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        output = self.run(keypoints)
        return torch.softmax(output.logits, 1), output.embedding

    def probabilities(self, keypoints: NDArray[np.float32], batch: int = 32) -> NDArray[np.float32]:
        """Clips (N, M, T, V, 3) → float32 (N, K), in batches and in eval mode."""
        training = self.training
        self.eval()
        with torch.no_grad():
            parts = [
                self(torch.from_numpy(keypoints[i : i + batch]))[0].numpy() for i in range(0, len(keypoints), batch)
            ]
        self.train(training)
        return np.concatenate(parts) if parts else np.zeros((0, len(self.labels)), np.float32)

    def decide(self, probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
        """(N, K) → class indices (N,): the positive class from the threshold on, else the likeliest of the others."""
        return decide(probabilities, self.labels.index(self.positive), self.threshold)


def decide(probabilities: NDArray[np.float32], positive: int, threshold: float) -> NDArray[np.int64]:
    """(N, K) → (N,): ``positive`` where its probability reaches ``threshold``, else the likeliest other class."""
    others = probabilities.copy()
    others[:, positive] = -1
    return np.where(probabilities[:, positive] >= threshold, positive, others.argmax(1)).astype(np.int64)


def choose_threshold(scores: NDArray[Any], truth: NDArray[Any]) -> float:
    """The threshold in (0, 1) with the best F1 for ``scores`` (N,) against ``truth`` (N,) in {0, 1}.

    Few clips leave a wide range of equally good ones: then the one in it nearest to 0.5. 0.5 when a class is missing.
    """
    truth = truth.astype(bool)
    if truth.all() or not truth.any():
        return 0.5
    edges = np.concatenate([[0.0], np.unique(scores.astype(np.float64)), [1.0]])
    best, choice = -1.0, 0.5
    for low, high in itertools.pairwise(edges):
        if high <= low:
            continue
        called = scores >= high
        hit = int((called & truth).sum())
        f1 = 2 * hit / max(1, int(called.sum() + truth.sum()))
        # Every threshold in (low, high] calls the same clips; stay off the ends, where rounding would decide.
        margin = 0.1 * (high - low)
        near = float(np.clip(0.5, low + margin, high - margin))
        if f1 > best + 1e-9 or (f1 > best - 1e-9 and abs(near - 0.5) < abs(choice - 0.5)):
            best, choice = f1, near
    return choice


def save(path: Path, recogniser: Recogniser, weights: dict[str, Tensor], extra: dict[str, Any] | None = None) -> None:
    """Write a checkpoint that ``load_checkpoint`` reads; equal input gives equal bytes."""
    data = {
        "version": VERSION,
        "weights": weights,
        "config": asdict(recogniser.config),
        "layout": recogniser.layout.to_dict(),
        "labels": list(recogniser.labels),
        "positive": recogniser.positive,
        "fps": recogniser.fps,
        "threshold": recogniser.threshold,
        **(extra or {}),
    }
    write_atomically(path, dump(data))


def dump(data: Any) -> bytes:
    """``torch.save`` to bytes; to a file it would write the file's name into the archive."""
    buffer = io.BytesIO()
    torch.save(data, buffer)
    return buffer.getvalue()


def write_atomically(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(data)
    partial.replace(path)


def load_checkpoint(path: Path | str) -> Recogniser:
    """The recogniser of a checkpoint, in eval mode. Runs no code from the file. Raises InputError."""
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
        recogniser = Recogniser(
            from_dict(TrainConfig, data["config"]),
            Layout.from_dict(data["layout"]),
            tuple(data["labels"]),
            data["positive"],
            float(data["fps"]),
            float(data["threshold"]),
        )
        recogniser.load_state_dict(data["weights"])
    except FileNotFoundError:
        raise InputError(f"no such checkpoint: {path}") from None
    except InputError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} is not a posewatch checkpoint: {reason}") from None
    return recogniser.eval()
