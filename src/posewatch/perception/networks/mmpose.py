"""Any bottom-up or one-stage network of MMPose, such as RTMO from a checkpoint.

``which`` is ``config.py::checkpoint.pth``, files as MMPose publishes them; without a checkpoint the weights are random.
MMPose is in no extra because it pins old versions of other packages; docs/perception.md has the commands to install it,
and the kind pose-mmpose of our images holds it.
"""

from __future__ import annotations

import importlib.util
import pickle
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posewatch import weights
from posewatch.errors import ConfigError, PosewatchError, WeightsError, first_line
from posewatch.perception.networks.pytorch import device_of, need_torchvision
from posewatch.perception.ports import Image
from posewatch.records import Detections


def parts(which: str) -> tuple[str, str]:
    """Configuration and checkpoint (may be empty) of ``config.py::checkpoint.pth``. Raises ConfigError."""
    config, _, checkpoint = which.partition("::")
    if not config.endswith(".py"):
        raise ConfigError(f"pose.weights of mmpose must be config.py::checkpoint.pth, not {which!r}")
    return config, checkpoint


def checkpoint_of(which: str) -> str:
    """The checkpoint alone, for the lineage."""
    return parts(which)[1]


def need_mmcv() -> None:
    """Let MMDetection import ``mmcv-lite``: stubs replace mmcv's compiled operators, which inference never calls."""
    if importlib.util.find_spec("mmcv") is None or importlib.util.find_spec("mmcv._ext") is not None:
        return
    stub = types.ModuleType("mmcv._ext")
    stub.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)

    def operator(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **more: Any) -> Any:
            raise PosewatchError(f"mmcv-lite has no operator {name} (install mmcv for this network)")

        return missing

    stub.__getattr__ = operator  # type: ignore[method-assign]
    sys.modules["mmcv._ext"] = stub


def need_xtcocotools() -> None:
    """Let MMPose import its evaluation where ``xtcocotools`` is missing, of which there is no build for numpy 2:
    ``pycocotools``, from which it was made, takes its place. Inference calls neither."""
    if importlib.util.find_spec("xtcocotools") is not None:
        return
    for name in ("", ".coco", ".cocoeval", ".mask"):
        sys.modules[f"xtcocotools{name}"] = importlib.import_module(f"pycocotools{name}")


_TENSORS = (
    ("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"), ("collections", "OrderedDict"),
)  # fmt: skip
"""What makes tensors of a checkpoint, and a dictionary of them."""


class _Nothing(dict[Any, Any]):
    """Takes the place of whatever else a checkpoint holds, and does nothing."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__()

    def __call__(self, *arguments: Any, **more: Any) -> _Nothing:
        return _Nothing()

    def __setstate__(self, state: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Makes tensors only, and runs nothing else of what a checkpoint names."""

    def find_class(self, module: str, name: str) -> Any:
        tensor = (module, name) in _TENSORS
        numbers = module == "torch" and name.isidentifier() and name.endswith("Storage")
        if tensor or numbers:
            return super().find_class(module, name)
        return _Nothing


def weights_in(path: str) -> dict[str, Any]:
    """The tensors of a checkpoint by name. Raises WeightsError.

    Beside them there are arrays, classes and functions of numpy and MMEngine (colours of joints, curves of the
    training): what ``torch.load`` refuses since version 2.6, and MMEngine does not ask for otherwise.
    """
    import torch

    reader = types.ModuleType("reader")
    reader.Unpickler = _Unpickler  # type: ignore[attr-defined]
    reader.load = lambda file, **more: _Unpickler(file, **more).load()  # type: ignore[attr-defined]
    try:
        data = torch.load(weights.path(path), map_location="cpu", weights_only=False, pickle_module=reader)
        state = data.get("state_dict", data)
        found = {name.removeprefix("module."): value for name, value in state.items() if torch.is_tensor(value)}
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{path} is not a checkpoint of MMPose ({first_line(error)}; fetch it again)") from None
    return found


class MMPoseEstimator:
    """COCO-17 skeletons by MMPose's inference interface, best first. ``floor`` is the lowest score reported."""

    name = "mmpose"
    layout = "coco17"

    def __init__(self, which: str, device: str = "auto", floor: float = 0.1) -> None:
        config, checkpoint = parts(which)
        self.weights = weights.records([checkpoint] if checkpoint else [])
        need_torchvision()
        need_mmcv()
        try:
            need_xtcocotools()
            from mmpose.apis import inference_bottomup, init_model
        except ImportError as error:
            raise PosewatchError(f"mmpose is not installed ({error}; see docs/perception.md)") from None
        if not Path(config).is_file():
            raise WeightsError(f"no such MMPose configuration: {config} (give the path of one)")
        self._infer: Any = inference_bottomup
        self._net = init_model(config, None, device=device_of(device))
        if checkpoint:
            state = weights_in(checkpoint)
            if not state.keys() & self._net.state_dict().keys():
                raise WeightsError(f"{checkpoint} holds no weights of the network in {config}")
            self._net.load_state_dict(state, strict=False)
        self._floor = floor

    def estimate(self, images: Sequence[Image]) -> list[Detections]:
        return [from_mmpose(self._infer(self._net, np.ascontiguousarray(i[..., ::-1]))[0], self._floor) for i in images]


def from_mmpose(sample: Any, floor: float) -> Detections:
    """The persons of MMPose's PoseDataSample whose score is at least ``floor``."""
    found = sample.pred_instances
    points = np.asarray(found.keypoints, np.float32).reshape(-1, 17, 2)
    sure = np.clip(np.asarray(found.keypoint_scores, np.float32).reshape(-1, 17), 0, 1)
    if "bbox_scores" in found:
        scores = np.clip(np.asarray(found.bbox_scores, np.float32).reshape(-1), 0, 1)
    else:
        scores = sure.mean(1)
    if "bboxes" in found:
        boxes = np.asarray(found.bboxes, np.float32).reshape(-1, 4)
    else:
        boxes = np.concatenate([points.min(1), points.max(1)], 1) if len(points) else np.zeros((0, 4), np.float32)
    keypoints = np.concatenate([points, sure[..., None]], -1)
    good = np.isfinite(keypoints).all((1, 2)) & np.isfinite(boxes).all(1) & (scores >= floor)
    order = np.flatnonzero(good)[np.argsort(-scores[good], kind="stable")]
    return Detections(boxes[order], scores[order].astype(np.float32), keypoints[order])
