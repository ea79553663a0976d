"""RTMO (Lu et al., CVPR 2024, arXiv 2312.07526) on ONNX Runtime: skeletons of everybody in one pass.

The contract is that of OpenMMLab's published ONNX files: input ``input`` (N, 3, S, S) float32, BGR from 0 to 255,
the image fitted into the top left corner on grey 114; outputs ``dets`` (N, K, 5) corners and score, and
``keypoints`` (N, K, 17, 3) x, y and score, in pixels of the input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch import weights
from posewatch.errors import WeightsError
from posewatch.perception.networks.onnx_runtime import Network, letterbox
from posewatch.perception.ports import Image
from posewatch.perception.tracking.matching import iou, suppress
from posewatch.records import Detections

_OUTPUTS = ("dets", "keypoints")


class RtmoEstimator:
    """COCO-17 skeletons, best first. ``floor`` is the lowest score reported. Of two boxes with an IoU above
    ``overlap`` the weaker one is a duplicate."""

    name = "rtmo"
    layout = "coco17"

    def __init__(self, which: str, device: str = "auto", floor: float = 0.1, overlap: float = 0.45) -> None:
        self.weights = weights.records([which])
        path = weights.path(which)
        self._net = Network(path, device, free=(640, 640))
        self._floor, self._overlap = floor, overlap
        if not set(_OUTPUTS) <= set(self._net.outputs):
            raise WeightsError(
                f"{path} is not an RTMO network: it gives {', '.join(self._net.outputs)} "
                "(export with outputs dets and keypoints)"
            )

    def estimate(self, images: Sequence[Image]) -> list[Detections]:
        found: list[Detections] = []
        for i in range(0, len(images), self._net.batch):
            some = images[i : i + self._net.batch]
            fitted = [letterbox(image, self._net.side) for image in some]
            dets, keypoints = self._net.run(np.stack([array for array, _ in fitted]), _OUTPUTS)
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
