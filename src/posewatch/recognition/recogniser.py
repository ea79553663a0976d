"""A trained network with its features and decision rule: keypoints in, probabilities and classes out."""

from __future__ import annotations

import io
import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from posewatch.config import TrainConfig
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.layouts import Layout
from posewatch.digests import canonical
from posewatch.errors import ConfigError, InputError, first_line
from posewatch.files import write_atomically
from posewatch.recognition.calibration import Calibration, HeldOut
from posewatch.recognition.features import FLOW_STREAMS, Features
from posewatch.recognition.models import build
from posewatch.recognition.models.base import Output
from posewatch.recognition.novelty import Novelty
from posewatch.recognition.sampling import sampled
from posewatch.recognition.threshold import decide
from posewatch.sections import from_dict
from posewatch.units import SCENE, unit_entry, unit_of

VERSION = 2
PRETRAINING = "pretraining"
"""Key of a checkpoint of `pretrain`, which knows no classes; its value is how it was pretrained."""
FLOW_MODEL = "flow-statistics"
"""The only model of the stream f, and of no other."""


@dataclass(frozen=True)
class Branch:
    """One network of a recogniser: model, size, options and stream, and its weight in the mean of probabilities."""

    RENAMED: ClassVar[dict[str, str]] = TrainConfig.RENAMED

    model: str
    width: float
    model_options: dict[str, Any]
    stream: str
    weight: float = 1.0


def branches_of(config: TrainConfig, flow: bool = True) -> tuple[Branch, ...]:
    """One branch per stream that ``config.stream`` separates by commas, then one per network of ``config.beside``.

    Without ``flow`` in the clips the networks of ``beside`` that want it are left out. Raises ConfigError for a stream
    that is not its network's.
    """
    streams = config.stream.split(",")
    weights = config.stream_weights or (1.0,) * len(streams)
    members = [(config.model, stream, weight) for stream, weight in zip(streams, weights, strict=True)]
    for member in config.beside.split(",") if config.beside.strip() else []:
        weight, _, network = member.rpartition("*")
        model, stream = network.split(":")
        if flow or stream.strip() not in FLOW_STREAMS:
            members.append((model, stream, float(weight or 1)))
    for model, stream, _ in members:
        if (stream.strip() in FLOW_STREAMS) != (model.strip() == FLOW_MODEL):
            raise ConfigError(
                f"{model.strip()} on stream {stream.strip()}: f and fs are for {FLOW_MODEL}, which takes no others "
                f"(set train.stream=f with it, or train.beside={FLOW_MODEL}:f)"
            )
        if stream.strip() in FLOW_STREAMS and not flow:
            raise ConfigError(f"the clips have no flow for {FLOW_MODEL}: prepare them with pose.flow from raw video")
    return tuple(
        Branch(model.strip(), config.width, config.model_options, stream.strip(), float(weight))
        for model, stream, weight in members
    )


def wants_flow(config: TrainConfig) -> bool:
    """Whether a network of ``config`` is about flow, where the clips have it."""
    return any(branch.stream in FLOW_STREAMS for branch in branches_of(config))


class Recogniser(nn.Module):
    """Keypoints (N, M, T, V, 3) → probabilities (N, K), embedding (N, D) and, where ``novelty`` was fitted to the
    training clips, how strange each clip is, (N,).

    ``labels`` are the K classes, ``positive`` the one that raises an alert from ``threshold`` on (empty: none does, and
    the likeliest class is predicted), ``frames`` T, ``people`` M, ``fps`` the frame rate of the training clips,
    ``unit`` what a clip shows: "scene", or "person" where it is one person alone. Several ``branches`` are
    an ensemble: their probabilities are averaged, their embeddings concatenated. ``temperature`` and ``threshold``
    were chosen on the clips of ``held_out``, where there were some. A clip in which nobody is seen raises no alert: the
    positive class has probability 0, the others share 1 alike.
    """

    nobody: Tensor

    def __init__(
        self,
        config: TrainConfig,
        layout: Layout,
        labels: tuple[str, ...],
        positive: str,
        fps: float,
        threshold: float = 0.5,
        branches: tuple[Branch, ...] = (),
        unit: str = SCENE,
    ) -> None:
        super().__init__()
        if positive and positive not in labels:
            raise InputError(f"the positive class {positive!r} is none of {', '.join(labels)}")
        self.config, self.layout, self.labels, self.positive = config, layout, labels, positive
        self.fps, self.threshold, self.unit = fps, threshold, unit
        self.temperature = 1.0
        self.held_out: HeldOut | None = None
        self.novelty: Novelty | None = None
        self.branches = branches or branches_of(config, layout.flow > 0)
        self.features = Features(layout, config.clip_frames, config.features)
        share = torch.tensor([float(label != positive) for label in labels])
        self.register_buffer("nobody", share / share.sum(), persistent=False)
        self.networks = nn.ModuleList(
            build(
                branch.model,
                layout=layout,
                classes=len(labels),
                width=branch.width,
                model_options=branch.model_options,
                in_channels=self.features.channels(branch.stream),
            )
            for branch in self.branches
        )

    def description(self) -> dict[str, Any]:
        """Plain data from which ``build_from`` builds the same networks with fresh weights."""
        return {
            "config": {k: v for k, v in asdict(self.config).items() if k != "pretrained"},
            "layout": self.layout.to_dict(),
            "labels": list(self.labels),
            "positive": self.positive,
            "branches": [asdict(branch) for branch in self.branches],
            "fps": self.fps,
            **unit_entry(self.unit),
        }

    def recipe(self) -> str:
        """``description`` as JSON, for the metadata of an exported file; ``from_recipe`` reads it."""
        return canonical(self.description())

    @property
    def frames(self) -> int:
        return self.config.clip_frames

    @property
    def people(self) -> int:
        return self.config.people

    @property
    def people_by(self) -> str:
        return self.config.people_by

    @property
    def joints(self) -> int:
        """V of a clip, with the columns of flow."""
        return self.layout.columns

    @property
    def flow(self) -> int:
        return self.layout.flow

    @property
    def embedding_size(self) -> int:
        """D, of all its networks together."""
        return sum(cast(nn.Linear, network.classify).in_features for network in self.networks)

    def run(self, keypoints: Tensor) -> list[Output]:
        """Keypoints (N, M, T, V, 3) → each network's output."""
        x, present = self.features(keypoints)
        return [
            network(self.features.stack(x, present, branch.stream), present)
            for network, branch in zip(self.networks, self.branches, strict=True)
        ]

    def forward(self, keypoints: Tensor) -> tuple[Tensor, ...]:
        probabilities, embedding = self.answer(self.run(keypoints), keypoints)
        if self.novelty is None:
            return probabilities, embedding
        return probabilities, embedding, self.novelty(embedding)

    def answer(self, outputs: list[Output], keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """The networks' outputs for ``keypoints`` → probabilities (N, K) and embedding (N, D)."""
        if len(outputs) == 1:
            logits = outputs[0].logits.float()
            logits = logits if self.temperature == 1 else logits / self.temperature
            return self._unless_nobody(keypoints, torch.softmax(logits, 1)), outputs[0].embedding.float()
        p = self._mean(outputs, keypoints)
        if self.temperature != 1:
            p = torch.softmax(torch.log(p.clamp(min=1e-7)) / self.temperature, 1)
        return self._unless_nobody(keypoints, p), torch.cat([o.embedding.float() for o in outputs], 1)

    def _mean(self, outputs: list[Output], keypoints: Tensor) -> Tensor:
        """The weighted mean of the networks' probabilities (N, K); those on flow are asked where it was measured."""
        on_flow = [branch.stream in FLOW_STREAMS for branch in self.branches]
        weights: list[Any] = [branch.weight for branch in self.branches]
        if any(on_flow) and not all(on_flow):
            weights = [
                branch.weight * self.features.has_flow(keypoints, branch.stream) if flow else branch.weight
                for branch, flow in zip(self.branches, on_flow, strict=True)
            ]
        total = sum(weights)
        p = sum(torch.softmax(o.logits.float(), 1) * (w / total) for o, w in zip(outputs, weights, strict=True))
        return cast(Tensor, p)

    def _unless_nobody(self, keypoints: Tensor, p: Tensor) -> Tensor:
        """The networks' probabilities (N, K), or ``nobody`` for clips without a seen joint."""
        seen = keypoints[..., : self.layout.observed, 2].flatten(1).amax(1, keepdim=True) > 0
        return torch.where(seen, p, self.nobody)

    @property
    def calibration(self) -> Calibration:
        """Threshold, temperature and what they were chosen on."""
        ratio = self.novelty.ratio if self.novelty is not None else None
        return Calibration(self.threshold, self.temperature, self.held_out, ratio)

    @calibration.setter
    def calibration(self, chosen: Calibration) -> None:
        self.threshold, self.temperature, self.held_out = chosen.threshold, chosen.temperature, chosen.held_out

    @property
    def device(self) -> torch.device:
        return self.features.parents.device

    def probabilities(self, keypoints: NDArray[np.float32], batch: int = 32) -> NDArray[np.float32]:
        """Clips (N, M, T, V, 3) → float32 (N, K), in batches and in eval mode."""
        return self._outputs(keypoints, batch)[0] if len(keypoints) else np.zeros((0, len(self.labels)), np.float32)

    def _outputs(self, keypoints: NDArray[np.float32], batch: int = 32) -> list[NDArray[np.float32]]:
        """What ``forward`` gives of one clip or more, in batches and in eval mode."""
        training = self.training
        self.eval()
        with torch.no_grad():
            parts = [
                [output.cpu().numpy() for output in self(torch.from_numpy(keypoints[i : i + batch]).to(self.device))]
                for i in range(0, len(keypoints), batch)
            ]
        self.train(training)
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def embeddings(self, clips: ClipSet) -> NDArray[np.float32]:
        """Clips of any length → float32 (N, D)."""
        if not len(clips):
            return np.zeros((0, 0), np.float32)
        return self._outputs(self._sampled(clips))[1]

    def strangeness(self, clips: ClipSet) -> NDArray[np.float32] | None:
        """Clips of any length → novelty float32 (N,); None for a model without."""
        if self.novelty is None or not len(clips):
            return None
        return self._outputs(self._sampled(clips))[2]

    def _sampled(self, clips: ClipSet, version: int = 0) -> NDArray[np.float32]:
        """Clips of any length, with or without flow → (N, M, T, V, 3) as this recogniser takes them."""
        return sampled(clips.with_flow(self.flow), self.config, version)

    def score(self, clips: ClipSet, batch: int = 32) -> NDArray[np.float32]:
        """Clips of any length → float32 (N, K), averaged over ``test_clips`` samplings of each."""
        return np.mean(
            [
                self.probabilities(self._sampled(clips, version), batch)
                for version in range(max(1, self.config.test_clips))
            ],
            axis=0,
            dtype=np.float32,
        )

    def decide(self, probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
        """(N, K) → class indices (N,): the positive class from the threshold on, else the likeliest of the others."""
        if not self.positive:
            return probabilities.argmax(1).astype(np.int64)
        return decide(probabilities, self.labels.index(self.positive), self.threshold)


def save(path: Path, recogniser: Recogniser, weights: dict[str, Tensor], extra: dict[str, Any] | None = None) -> None:
    """Write a checkpoint that ``load_checkpoint`` reads; equal input gives equal bytes."""
    checkpoint = {
        "version": VERSION,
        "weights": weights,
        **recogniser.description(),
        "threshold": recogniser.threshold,
        "temperature": recogniser.temperature,
        **_held_out(recogniser.held_out),
        **_novelty(recogniser.novelty),
        **(extra or {}),
    }
    write_atomically(path, dump(checkpoint))


def _held_out(held: HeldOut | None) -> dict[str, Any]:
    if held is None:
        return {}
    scores, labels = torch.from_numpy(held.scores.copy()), torch.from_numpy(held.labels.copy())
    return {"held_out": {"scores": scores, "labels": labels, "seconds": held.seconds}}


def _novelty(novelty: Novelty | None) -> dict[str, Any]:
    return {} if novelty is None else {"novelty": {"parts": novelty.parts(), "ratio": novelty.ratio}}


def dump(data: Any) -> bytes:
    """``torch.save`` to bytes; to a file it would write the file's name into the archive."""
    buffer = io.BytesIO()
    torch.save(data, buffer)
    return buffer.getvalue()


def build_from(description: Mapping[str, Any]) -> Recogniser:
    """A recogniser with fresh weights from its ``description``; settings may have the names of earlier versions."""
    return Recogniser(
        from_dict(TrainConfig, description["config"], former_names=True),
        Layout.from_dict(description["layout"]),
        tuple(description["labels"]),
        description["positive"],
        float(description["fps"]),
        branches=tuple(from_dict(Branch, branch, former_names=True) for branch in description["branches"]),
        unit=unit_of(description),
    )


def from_recipe(text: str) -> Recogniser:
    """An untrained recogniser from ``Recogniser.recipe``, with the same weights in every run. Raises InputError."""
    try:
        torch.manual_seed(0)
        return build_from(json.loads(text)).eval()
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"this does not describe a recogniser: {error}") from None


def load_checkpoint(path: Path | str, *, pretraining: bool = False) -> Recogniser:
    """The recogniser of a checkpoint, in eval mode. Runs no code from the file. Raises InputError, also for one of
    `pretrain` unless ``pretraining`` allows it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of what it then refuses
            data = torch.load(path, map_location="cpu", weights_only=True)
        if PRETRAINING in data and not pretraining:
            raise InputError(f"{path} is pretrained and knows no classes yet: train with --pretrained {path}")
        recogniser = build_from(data)
        recogniser.threshold = float(data["threshold"])
        recogniser.temperature = float(data.get("temperature", 1.0))
        if (held := data.get("held_out")) is not None:
            recogniser.held_out = HeldOut(held["scores"].numpy(), held["labels"].numpy(), float(held["seconds"]))
        if (density := data.get("novelty")) is not None:
            recogniser.novelty = Novelty(density["parts"], float(density["ratio"]))
        recogniser.load_state_dict(data["weights"])
    except FileNotFoundError:
        raise InputError(f"no such checkpoint: {path}") from None
    except InputError:
        raise
    except (pickle.UnpicklingError, EOFError):  # torch writes a page about its settings here
        raise InputError(f"{path} is not a posewatch checkpoint: it is another kind of file, or damaged") from None
    except Exception as error:
        raise InputError(f"{path} is not a posewatch checkpoint: {first_line(error)[:120]}") from None
    return recogniser.eval()
