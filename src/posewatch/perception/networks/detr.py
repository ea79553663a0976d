"""Detectors of the DETR family through transformers: RT-DETRv2 (arXiv 2407.17140), D-FINE (2410.13842)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posewatch import weights
from posewatch.errors import PosewatchError, WeightsError, first_line
from posewatch.perception.networks.pytorch import device_of, need_torchvision, numpy, person_classes
from posewatch.perception.ports import Image
from posewatch.perception.tracking.matching import iou, suppress
from posewatch.records import Detections

_BATCH = 8


class DetrDetector:
    """Persons, best first. ``which`` is a published name or a folder saved by transformers (network and image
    processor). ``floor`` is the lowest score reported; of two boxes with an IoU above ``overlap`` the weaker one is a
    duplicate: a DETR answers once for each person, but not with its weak answers."""

    name = "detr"

    def __init__(self, which: str, device: str = "auto", floor: float = 0.1, overlap: float = 0.7) -> None:
        self.weights = weights.records([which])
        path = weights.path(which)
        self._net, self._processor = _load(path if path.is_dir() else path.parent)
        import torch

        self._torch = torch
        self._device = torch.device(device_of(device))
        self._net = self._net.to(self._device).eval()
        self._persons = person_classes(self._net.config.id2label)
        self._floor, self._overlap = floor, overlap

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        found: list[Detections] = []
        for i in range(0, len(images), _BATCH):
            some = images[i : i + _BATCH]
            inputs = self._processor(images=list(some), return_tensors="pt").to(self._device)
            with self._torch.inference_mode():
                answer = self._net(**inputs)
            shapes = [image.shape[:2] for image in some]
            results = self._processor.post_process_object_detection(answer, self._floor, target_sizes=shapes)
            found += [self._from_transformers(r, shape) for r, shape in zip(results, shapes, strict=True)]
        return found

    def _from_transformers(self, result: Any, shape: tuple[int, ...]) -> Detections:
        """The persons of one image of that (H, W) from {"scores", "labels", "boxes"}."""
        people = np.isin(result["labels"].cpu().numpy(), self._persons)
        boxes, scores = numpy(result["boxes"])[people], numpy(result["scores"])[people]
        boxes = np.clip(boxes, 0, [shape[1], shape[0], shape[1], shape[0]]).astype(np.float32)
        selected = suppress(scores, iou(boxes, boxes) > self._overlap)
        return Detections(boxes[selected], scores[selected])


def _load(folder: Path) -> tuple[Any, Any]:
    """The network in a folder of transformers, and its image processor."""
    if importlib.util.find_spec("torchvision"):  # transformers imports it when it is installed
        need_torchvision()
    try:
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        from transformers import AutoImageProcessor, AutoModelForObjectDetection
    except ImportError as error:
        raise PosewatchError(f"detr needs transformers ({error}): pip install 'posewatch[detr]'") from None
    try:
        network = AutoModelForObjectDetection.from_pretrained(str(folder), local_files_only=True)
        return network, AutoImageProcessor.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise WeightsError(
            f"{folder} is not a detector of transformers with its image processor ({first_line(error)}; "
            "give a folder as save_pretrained makes it)"
        ) from None
