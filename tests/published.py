"""Published versions with a lineage, small enough to make in a test: dataset → checkpoint → ONNX → model repository."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from skeletons import clip_set

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import ServingConfig
from posewatch.digests import canonical
from posewatch.stages.publish import publish
from posewatch.store import FolderStore
from posewatch.units import unit_entry

SHAPE = (2, 6, 17, 3)


class Bucket(FolderStore):
    """A folder that calls itself a bucket, as KServe reads from buckets only."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.uri = "s3://posewatch"


def tiny_model(path: Path, seed: int, unit: str = "scene") -> Path:
    """keypoints → mean over M, T, V → linear → softmax; another seed gives clearly other probabilities."""
    rng = np.random.default_rng(seed)
    weight = (rng.normal(size=(3, 2)) * [[0.01], [0.01], [3.0]]).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["keypoints", "axes"], ["embedding"], keepdims=0),
        helper.make_node("MatMul", ["embedding", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array([1, 2, 3]), "axes")]
    inputs = [helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, ["N", *SHAPE])]
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 3]),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    told = {"layout": "coco17", "frames": "6", "people": "2", "fps": "10.0", "positive": "abnormal"}
    told |= unit_entry(unit)
    helper.set_model_props(model, told | {"lineage": "0" * 64, "labels": json.dumps(["normal", "abnormal"])})
    onnx.save(model, str(path))
    return path


@dataclasses.dataclass(frozen=True)
class Version:
    """A published model and an evaluation of its checkpoint."""

    model: Artifact
    evaluation: Artifact


def dataset(store: FolderStore, seed: int = 0) -> Artifact:
    """Six clips to train on and twelve held out."""
    clips = clip_set(18, first=100 * seed)
    parts = ["train"] * 6 + ["test"] * 12

    def make(folder: Path) -> None:
        rows = [
            {"clip": i, "video": g, "names": [i], "label": clips.classes[k], "source": "human", "part": part}
            for i, g, k, part in zip(clips.ids, clips.groups, clips.labels, parts, strict=True)
        ]
        (folder / "clips.jsonl").write_text("".join(canonical(row) + "\n" for row in rows))
        np.savez(folder / "skeletons.npz", **dict(zip(clips.ids, clips.keypoints, strict=True)))
        about = {"classes": clips.classes, "positive": "abnormal", "layout": "coco17", "fps": 10.0}
        (folder / "dataset.json").write_text(canonical(about))

    return produce(store, Job("datasets", "", {"seed": seed}), make)


def version(
    store: FolderStore,
    seed: int,
    config: ServingConfig,
    *,
    f1: float | None = 0.9,
    parity: float | None = 2e-6,
    robustness: dict[str, Any] | None = None,
    unit: str = "scene",
) -> Version:
    """Publish the tiny model of ``seed``, with these figures."""
    data = dataset(store)
    checkpoint = produce(
        store, Job("checkpoints", "", {"seed": seed}, (data,)), _writes("checkpoint.pt", {"seed": seed})
    )
    told = {"metrics.json": {"f1": f1}} | ({} if robustness is None else {"robustness.json": robustness})
    evaluation = produce(store, Job("evaluations", "", {}, (data, checkpoint)), _writes(**told))

    def export(folder: Path) -> None:
        tiny_model(folder / "model.onnx", seed, unit)
        (folder / "export.json").write_text(canonical({} if parity is None else {"max_abs_error": parity}))

    return Version(publish(store, produce(store, Job("onnx", "", {}, (checkpoint,)), export), config), evaluation)


def _writes(*name: Any, **files: Any) -> Callable[[Path], None]:
    told = files or dict([name])

    def make(folder: Path) -> None:
        for key, value in told.items():
            (folder / key).write_text(canonical(value))

    return make
