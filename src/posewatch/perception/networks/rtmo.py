"""RTMO (Lu et al., CVPR 2024, arXiv 2312.07526) on ONNX Runtime: skeletons of everybody in one pass.

The contract is that of OpenMMLab's published ONNX files: input ``input`` (N, 3, S, S) float32, BGR from 0 to 255,
the image fitted into the top left corner on grey 114; outputs ``dets`` (N, K, 5) corners and score, and
``keypoints`` (N, K, 17, 3) x, y and score, in pixels of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch import weights
from posewatch.errors import PosewatchError, WeightsError, first_line
from posewatch.perception.ports import Image
from posewatch.perception.tracking.matching import iou, suppress
from posewatch.records import Detections

_GREY = 114
_BATCH = 8
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}


class RtmoEstimator:
    """COCO-17 skeletons, best first. ``floor`` is the lowest score reported. Of two boxes with an IoU above
    ``overlap`` the weaker one is a duplicate."""

    name = "rtmo"
    layout = "coco17"

    def __init__(self, which: str, device: str = "auto", floor: float = 0.1, overlap: float = 0.45) -> None:
        self.weights = weights.records([which])
        path = weights.path(which)
        self._session = _session(path, device)
        self._floor, self._overlap = floor, overlap
        given = self._session.get_inputs()[0]
        names = [o.name for o in self._session.get_outputs()]
        if len(given.shape) != 4 or not {"dets", "keypoints"} <= set(names):
            raise WeightsError(
                f"{path} is not an RTMO network: it gives {', '.join(names)} (export with outputs dets and keypoints)"
            )
        self._input = given.name
        batch, _, height, width = given.shape
        self._batch = batch if isinstance(batch, int) and batch > 0 else _BATCH
        self._side = (int(width) if isinstance(width, int) else 640, int(height) if isinstance(height, int) else 640)

    def estimate(self, images: Sequence[Image]) -> list[Detections]:
        found: list[Detections] = []
        for i in range(0, len(images), self._batch):
            some = images[i : i + self._batch]
            fitted = [letterbox(image, self._side) for image in some]
            data = np.stack([array for array, _ in fitted])
            if len(some) < self._batch and self._batch != _BATCH:  # a network with a fixed batch size
                data = np.concatenate([data, np.repeat(data[-1:], self._batch - len(some), 0)])
            dets, keypoints = self._session.run(["dets", "keypoints"], {self._input: data})
            for k, (image, (_, scale)) in enumerate(zip(some, fitted, strict=True)):
                found.append(self._persons(dets[k], keypoints[k], scale, image))
        return found

    def _persons(
        self, dets: NDArray[np.float32], keypoints: NDArray[np.float32], scale: float, image: Image
    ) -> Detections:
        """Rows (K, 5) and (K, 17, 3) of the network → persons in pixels of the image; rows with NaN are dropped."""
        fine = np.isfinite(dets).all(1) & np.isfinite(keypoints).all((1, 2)) & (dets[:, 4] >= self._floor)
        dets, keypoints = dets[fine], keypoints[fine]
        selected = suppress(dets[:, 4], iou(dets[:, :4], dets[:, :4]) > self._overlap)
        dets, keypoints = dets[selected], keypoints[selected].astype(np.float32)
        height, width = image.shape[:2]
        boxes = np.clip(dets[:, :4] / scale, 0, [width, height, width, height]).astype(np.float32)
        points = np.concatenate([keypoints[..., :2] / scale, np.clip(keypoints[..., 2:], 0, 1)], -1)
        return Detections(boxes, np.clip(dets[:, 4], 0, 1).astype(np.float32), points.astype(np.float32))


def letterbox(image: Image, side: tuple[int, int]) -> tuple[NDArray[np.float32], float]:
    """An image as (3, H, W) BGR float32 in the top left corner of ``side`` (width, height), and its scale."""
    import cv2

    scale = min(side[0] / image.shape[1], side[1] / image.shape[0])
    inner = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    canvas = np.full((side[1], side[0], 3), _GREY, np.uint8)
    canvas[: inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1), np.float32), scale


def _session(path: Path, device: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise PosewatchError("rtmo needs ONNX Runtime: pip install 'posewatch[rtmo]'") from None
    available = onnxruntime.get_available_providers()
    if device == "auto":
        device = "cuda" if "CUDAExecutionProvider" in available else "cpu"
    if device not in _PROVIDERS:
        raise PosewatchError(f"unknown device {device!r} for rtmo (known: auto, {', '.join(_PROVIDERS)})")
    if _PROVIDERS[device][0] not in available:
        raise PosewatchError(
            f"ONNX Runtime here has no {_PROVIDERS[device][0]} (it has {', '.join(available)}; install onnxruntime-gpu)"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # parallel work is one process per video
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(_PROVIDERS[device]))
    except Exception as error:
        raise WeightsError(f"{path} is not an ONNX network ({first_line(error)}; fetch it again)") from None
