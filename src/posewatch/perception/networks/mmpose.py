"""Any bottom-up or one-stage network of MMPose (such as RTMO from a checkpoint), as an optional extra.

``which`` is ``config.py::checkpoint.pth``, files as MMPose publishes them; without a checkpoint the weights are random.
MMPose stays out of the other extras because it needs old companions; docs/perception.md says how to install it.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posewatch import weights
from posewatch.errors import ConfigError, PosewatchError, WeightsError
from posewatch.perception.networks import ultralytics as ultra
from posewatch.perception.ports import Image
from posewatch.records import Detections


def parts(which: str) -> tuple[str, str]:
    """Configuration and checkpoint (may be empty) of ``config.py::checkpoint.pth``. Raises ConfigError."""
    config, _, checkpoint = which.partition("::")
    if not config.endswith(".py"):
        raise ConfigError(f"pose.weights of mmpose must be config.py::checkpoint.pth, not {which!r}")
    return config, checkpoint


def records(which: str) -> dict[str, dict[str, str]]:
    """What the lineage says about the checkpoint."""
    _, checkpoint = parts(which)
    return weights.records([checkpoint]) if checkpoint else {}


def need_mmcv() -> None:
    """Let ``mmcv-lite`` do where MMDetection asks for mmcv's compiled operators, of which inference needs none."""
    import importlib.util

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


class MMPoseEstimator:
    """COCO-17 skeletons by MMPose's inference interface."""

    name = "mmpose"
    layout = "coco17"

    def __init__(self, which: str, floor: float = 0.1, device: str = "auto") -> None:
        config, checkpoint = parts(which)
        self.weights = records(which)
        ultra.need_torchvision()
        need_mmcv()
        try:
            from mmpose.apis import inference_bottomup, init_model
        except ImportError as error:
            raise PosewatchError(f"mmpose is not installed ({error}; see docs/perception.md)") from None
        if not Path(config).is_file():
            raise WeightsError(f"no such MMPose configuration: {config} (give the path of one)")
        self._infer: Any = inference_bottomup
        self._net = init_model(config, checkpoint or None, device=ultra.device_of(device))
        self._floor = floor

    def estimate(self, images: Sequence[Image]) -> list[Detections]:
        """Persons with skeletons in each of the pictures, best first."""
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
