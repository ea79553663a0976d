"""The simplest segmenter: the rectangle around each person. It needs no network, so tests use it as well."""

from __future__ import annotations

import numpy as np

from posewatch.perception.ports import Image, Masks, Segmenter, Weights
from posewatch.records import Detections


class BoxSegmenter(Segmenter):
    """Everything inside the box belongs to the person."""

    name = "bbox"

    def __init__(self) -> None:
        self.weights: Weights = {}

    def segment(self, image: Image, detections: Detections) -> Masks:
        height, width = image.shape[:2]
        masks = np.zeros((len(detections), height, width), bool)
        for mask, box in zip(masks, detections.boxes, strict=True):
            x1, y1 = np.floor(np.clip(box[:2], 0, [width, height])).astype(int)
            x2, y2 = np.ceil(np.clip(box[2:], 0, [width, height])).astype(int)
            mask[y1:y2, x1:x2] = True
        return masks
