"""SAM 2.1 by Ultralytics, as the paper's authors used it: every frame by itself, prompted with the persons' boxes.

It has no memory, so a lost person's last mask is moved along, as with every segmenter without one.
"""

from __future__ import annotations

import numpy as np

from posewatch import weights
from posewatch.errors import WeightsError, first_line
from posewatch.perception.networks.prompted import trusted
from posewatch.perception.networks.pytorch import device_of, numpy
from posewatch.perception.networks.yolo import load_ultralytics
from posewatch.perception.ports import Image, Masks, Segmenter
from posewatch.records import Detections


class UltralyticsSamSegmenter(Segmenter):
    """Masks by Ultralytics' SAM. ``which`` is a published name or a file whose name is one of Ultralytics' own
    (``sam2.1_b.pt``), by which it knows the network's size. ``side`` is the size of its input in pixels."""

    name = "sam2-ultralytics"

    def __init__(self, which: str, device: str = "auto", side: int = 1024) -> None:
        self.weights = weights.records([which])
        ultralytics = load_ultralytics()
        path = weights.path(which)
        try:
            self._net = ultralytics.SAM(str(path))
        except Exception as error:
            raise WeightsError(
                f"{path} is not a SAM network of Ultralytics ({first_line(error)}; its name must be Ultralytics' own, "
                "sam2.1_b.pt say)"
            ) from None
        self._options = {"imgsz": side, "device": device_of(device), "verbose": False, "save": False}

    def segment(self, image: Image, detections: Detections) -> Masks:
        """Masks (P, H, W); every image by itself."""
        masks = np.zeros((len(detections), *image.shape[:2]), bool)
        if len(detections):
            bgr = np.ascontiguousarray(image[..., ::-1])
            # conf: a mask of a low score is better than the box that would take its place
            (result,) = self._net.predict(bgr, bboxes=detections.boxes.tolist(), conf=0.0, **self._options)
            masks = numpy(result.masks.data) > 0.5
        return trusted(image, list(masks), detections)
