"""YOLO11 through Ultralytics, offline: persons' boxes, their masks (-seg networks) or their skeletons (-pose networks).

ByteTrack goes on with weak detections, so the networks report scores from 0.1 on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch import weights
from posewatch.errors import PosewatchError, WeightsError, first_line
from posewatch.perception.networks.boxes import BoxSegmenter
from posewatch.perception.networks.pytorch import device_of, need_torchvision, numpy, person_classes
from posewatch.perception.ports import Image, Masks, Segmenter
from posewatch.perception.tracking.matching import iou
from posewatch.records import Detections

_BATCH = 16
_SAME = 0.5
"""IoU from which a mask belongs to a box that another network found."""


class _Yolo:
    """A YOLO network of one task. ``side`` is the size of its input in pixels, ``floor`` the lowest score reported."""

    task = ""

    def __init__(self, which: str, device: str = "auto", side: int = 640, floor: float = 0.1) -> None:
        self.weights = weights.records([which])
        device = device_of(device)
        self._net = open_network(which, self.task)
        self._options: dict[str, Any] = {"imgsz": side, "conf": floor, "iou": 0.7, "max_det": 100, "device": device}
        if device != "cpu":
            self._options["quantize"] = 16  # half precision
        # an exported network has a fixed batch size
        self._batch = _BATCH if str(self._net.ckpt_path or self._net.model_name).endswith((".pt", ".yaml")) else 1

    def _results(self, images: Sequence[Image]) -> Iterator[Any]:
        """Ultralytics' result for each image."""
        for i in range(0, len(images), self._batch):
            bgr = [np.ascontiguousarray(image[..., ::-1]) for image in images[i : i + self._batch]]
            yield from self._net.predict(bgr, verbose=False, save=False, stream=False, **self._options)


class YoloDetector(_Yolo):
    """Persons by any YOLO detector."""

    name = "yolo11"
    task = "detect"

    def __init__(self, which: str, device: str = "auto", side: int = 640, floor: float = 0.1) -> None:
        super().__init__(which, device, side, floor)
        self._options |= {"classes": person_classes(self._net.names), "agnostic_nms": True}

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [from_ultralytics(result) for result in self._results(images)]


class YoloSegmenter(YoloDetector, Segmenter):
    """Masks by a YOLO -seg network. When it is the detector as well, each image passes the network once."""

    name = "yolo-seg"
    task = "segment"

    def __init__(self, which: str, device: str = "auto", side: int = 640, floor: float = 0.1) -> None:
        super().__init__(which, device, side, floor)
        self._options["retina_masks"] = True
        self._found: dict[int, tuple[Image, Detections, NDArray[np.uint8]]] = {}

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Persons in each image; their masks are cached until ``segment`` is called with the same image."""
        found: list[Detections] = []
        for image, result in zip(images, self._results(images), strict=True):
            persons = from_ultralytics(result)
            masks = np.zeros((len(persons), *image.shape[:2]), bool)
            if result.masks is not None and len(persons):
                masks = numpy(result.masks.data) > 0.5
            # holding the image as well keeps its id from being given to another one
            self._found[id(image)] = (image, persons, np.packbits(masks, axis=-1))
            found.append(persons)
        return found

    def segment(self, image: Image, detections: Detections) -> Masks:
        """Masks (P, H, W); a person whom this network does not find gets the box."""
        if id(image) not in self._found:
            self.detect([image])
        _, persons, packed = self._found.pop(id(image))
        masks = BoxSegmenter().segment(image, detections)
        if len(detections) and len(persons):
            own = np.unpackbits(packed, axis=-1, count=image.shape[1]).view(bool)
            overlap = iou(detections.boxes, persons.boxes)
            for i, best in enumerate(overlap.argmax(1)):
                if overlap[i, best] >= _SAME and own[best].any():
                    masks[i] = own[best]
        return masks


class YoloPoseEstimator(_Yolo):
    """COCO-17 skeletons by a YOLO -pose network, best first."""

    name = "yolo-pose"
    layout = "coco17"
    task = "pose"

    def __init__(self, which: str, device: str = "auto", side: int = 640, floor: float = 0.1) -> None:
        super().__init__(which, device, side, floor)
        joints, *_ = getattr(self._net.model, "kpt_shape", (17, 3))
        if joints != 17:
            raise WeightsError(f"{which} gives {joints} joints, not the 17 of COCO (choose other weights)")

    def estimate(self, images: Sequence[Image]) -> list[Detections]:
        return [from_ultralytics(result) for result in self._results(images)]


def from_ultralytics(result: Any) -> Detections:
    """The persons of one of Ultralytics' results, with keypoints where it has some."""
    boxes = numpy(result.boxes.xyxy).reshape(-1, 4)
    scores = np.clip(numpy(result.boxes.conf).reshape(-1), 0, 1)
    points = getattr(result, "keypoints", None)
    if points is None or points.data is None:
        return Detections(boxes, scores)
    data = numpy(points.data)
    if len(boxes) == 0:
        return Detections.none(data.shape[1] if data.ndim == 3 and data.shape[1] else 17)
    if data.shape[2] == 2:  # a network without visibility
        data = np.concatenate([data, np.repeat(scores[:, None, None], data.shape[1], 1)], -1)
    return Detections(boxes, scores, np.ascontiguousarray(data, np.float32))


def load_ultralytics() -> Any:
    """The package: nothing is fetched or installed, its files lie in our cache, and PyTorch keeps its threads. Raises
    PosewatchError where it is not installed."""
    need_torchvision()
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(weights.cache() / "ultralytics"))
    with suppress(OSError):  # a read-only root: it then takes the temporary folder, and says so
        Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)
    import torch

    told, threads = os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()
    try:
        import ultralytics

        torch_utils: Any = import_module("ultralytics.utils.torch_utils")
    except ImportError:
        raise PosewatchError("this network needs Ultralytics: pip install 'posewatch[yolo]'") from None
    # it gives PyTorch up to eight threads by the machine's processors, and whatever is loaded after it one
    torch_utils.NUM_THREADS = threads if told else min(threads, torch_utils.NUM_THREADS)
    if not told:
        os.environ.pop("OMP_NUM_THREADS", None)
    return ultralytics


def open_network(name: str, task: str) -> Any:
    """An ``ultralytics.YOLO`` of those weights: a name, or a .pt, .onnx or .yaml file (.yaml has random weights)."""
    ultralytics = load_ultralytics()
    from ultralytics.utils import nms

    # it has two seconds for a batch, by a clock that may be set: the pictures after that would show nobody
    nms.non_max_suppression = partial(nms.non_max_suppression, max_time_img=math.inf)
    path = weights.path(name)
    try:
        network = ultralytics.YOLO(str(path), task=task, verbose=False)
    except PosewatchError:
        raise
    except Exception as error:
        raise WeightsError(
            f"{path} is not a YOLO network ({first_line(error)}; give a .pt or .onnx of task {task})"
        ) from None
    if network.task != task:
        raise WeightsError(f"{path} is a YOLO network for {network.task}, not for {task} (choose other weights)")
    return network
