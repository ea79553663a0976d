"""YOLO11 through Ultralytics: persons' boxes, and with the -seg networks their masks from the same pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch import weights
from posewatch.errors import WeightsError
from posewatch.perception.networks import ultralytics as ultra
from posewatch.perception.networks.boxes import BoxSegmenter
from posewatch.perception.ports import Image, Masks
from posewatch.perception.tracking.matching import iou
from posewatch.records import Detections

DETECTOR, SEGMENTER = "yolo11n", "yolo11n-seg"
"""Default weights."""
_BATCH = 16
_SAME = 0.5
"""Overlap from which a mask belongs to a box that another network found."""


class YoloDetector:
    """Persons of any YOLO detector. ``side`` is what the network sees in pixels, ``floor`` the lowest score reported;
    low ones are kept, since ByteTrack goes on with them."""

    name = "yolo11"

    def __init__(self, which: str = DETECTOR, side: int = 640, floor: float = 0.1, device: str = "auto") -> None:
        which = which or DETECTOR
        self.weights = weights.records([which])
        self._device = ultra.device_of(device)
        self._net = ultra.open_network(which, "detect")
        self._classes = ultra.person_classes(self._net.names)
        self._options = {
            "imgsz": side, "conf": floor, "iou": 0.7, "classes": self._classes, "max_det": 100, "agnostic_nms": True,
            **ultra.placed(self._device),
        }  # fmt: skip

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        found: list[Detections] = []
        for i in range(0, len(images), _BATCH):
            found += [from_ultralytics(r) for r in ultra.predict(self._net, images[i : i + _BATCH], **self._options)]
        return found


def from_ultralytics(result: Any) -> Detections:
    """The persons of one of Ultralytics' results, with keypoints where it has some."""
    boxes = ultra.numpy(result.boxes.xyxy).reshape(-1, 4)
    scores = np.clip(ultra.numpy(result.boxes.conf).reshape(-1), 0, 1)
    points = getattr(result, "keypoints", None)
    if points is None or points.data is None:
        return Detections(boxes, scores)
    data = ultra.numpy(points.data)
    if len(boxes) == 0:
        return Detections.none(data.shape[1] if data.ndim == 3 and data.shape[1] else 17)
    if data.shape[2] == 2:  # a network without visibility
        data = np.concatenate([data, np.repeat(scores[:, None, None], data.shape[1], 1)], -1)
    return Detections(boxes, scores, np.ascontiguousarray(data, np.float32))


class YoloSegmenter:
    """Masks of a YOLO -seg network. When it is the detector as well, each picture passes the network once."""

    name = "yolo-seg"

    def __init__(self, which: str = SEGMENTER, side: int = 640, floor: float = 0.1, device: str = "auto") -> None:
        which = which or SEGMENTER
        self.weights = weights.records([which])
        self._device = ultra.device_of(device)
        self._net = ultra.open_network(which, "segment")
        self._options = {
            "imgsz": side, "conf": floor, "iou": 0.7, "classes": ultra.person_classes(self._net.names),
            "max_det": 100, "agnostic_nms": True, "retina_masks": True, **ultra.placed(self._device),
        }  # fmt: skip
        self._seen: dict[int, tuple[Image, Detections, NDArray[np.uint8]]] = {}

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Persons of the pictures, whose masks are kept until ``segment`` asks for them."""
        found: list[Detections] = []
        for i in range(0, len(images), _BATCH):
            some = images[i : i + _BATCH]
            for image, result in zip(some, ultra.predict(self._net, some, **self._options), strict=True):
                persons = from_ultralytics(result)
                height, width = image.shape[:2]
                masks = np.zeros((len(persons), height, width), bool)
                if result.masks is not None and len(persons):
                    masks = ultra.numpy(result.masks.data) > 0.5
                # the picture is kept too: while it lives, its id stands for no other
                self._seen[id(image)] = (image, persons, np.packbits(masks, axis=-1))
                found.append(persons)
        return found

    def segment(self, image: Image, detections: Detections) -> Masks:
        """Masks (P, H, W); a person whom this network does not see gets the box."""
        if id(image) not in self._seen:
            self.detect([image])
        _, persons, packed = self._seen.pop(id(image))
        masks = BoxSegmenter().segment(image, detections)
        if len(detections) and len(persons):
            own = np.unpackbits(packed, axis=-1, count=image.shape[1]).view(bool)
            overlap = iou(detections.boxes, persons.boxes)
            for i, best in enumerate(overlap.argmax(1)):
                if overlap[i, best] >= _SAME and own[best].any():
                    masks[i] = own[best]
        return masks


DEFAULT = "yolo11n-pose"


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
