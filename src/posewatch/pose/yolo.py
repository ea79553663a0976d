"""YOLO11-pose through Ultralytics: boxes and COCO-17 skeletons from one network."""

from __future__ import annotations

from collections.abc import Sequence

from posewatch import weights
from posewatch.errors import WeightsError
from posewatch.masking import ultra
from posewatch.masking.detector import Image
from posewatch.masking.yolo import from_ultralytics
from posewatch.records import Detections

DEFAULT = "yolo11n-pose"
_BATCH = 16


class YoloPoseEstimator:
    """``side`` is what the network sees in pixels, ``floor`` the lowest score that is reported."""

    name = "yolo-pose"
    layout = "coco17"

    def __init__(self, which: str = "", side: int = 640, floor: float = 0.1, device: str = "auto") -> None:
        which = which or DEFAULT
        self.weights = weights.records([which])
        self._net = ultra.open_network(which, "pose")
        shape = tuple(getattr(self._net.model, "kpt_shape", (17, 3)))
        if shape[0] != 17:
            raise WeightsError(f"{which} gives {shape[0]} joints, not the 17 of COCO (choose other weights)")
        placed = ultra.placed(ultra.device_of(device))
        self._options = {"imgsz": side, "conf": floor, "iou": 0.7, "max_det": 100, **placed}

    def estimate(self, images: Sequence[Image]) -> list[Detections]:
        """Persons with skeletons in each of the pictures, best first."""
        found: list[Detections] = []
        for i in range(0, len(images), _BATCH):
            found += [from_ultralytics(r) for r in ultra.predict(self._net, images[i : i + _BATCH], **self._options)]
        return found
