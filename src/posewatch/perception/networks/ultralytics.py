"""Opening Ultralytics networks: offline, quiet, and with a torchvision whose compiled part may be missing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch import weights
from posewatch.errors import PosewatchError, WeightsError
from posewatch.perception.ports import Image


def need_torchvision() -> None:
    """Make ``import torchvision`` work where its compiled operators do not fit the installed torch.

    torchvision's wheel is linked to CUDA and fails beside a CPU build of torch, although only non-maximum suppression
    is needed of its operators: that one is then written in torch.
    """
    import torch

    try:
        import torchvision

        torch.ops.torchvision.nms  # noqa: B018
        return
    except ImportError:
        raise PosewatchError("this backend needs torchvision: pip install 'posewatch[yolo]' or [sam2]") from None
    except (RuntimeError, AttributeError):
        pass
    import sys

    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in ("nms", "qnms"):
        library.impl(name, _nms, "CompositeExplicitAutograd")
    _LIBRARIES.append(library)  # lives as long as the process
    import torchvision
    from torchvision import extension

    extension._assert_has_ops = lambda: None
    torchvision.ops.boxes._assert_has_ops = lambda: None


_LIBRARIES: list[Any] = []


def _nms(boxes: Any, scores: Any, threshold: float) -> Any:
    """Indices of the boxes (N, 4) that no better one overlaps by more than ``threshold``, best first."""
    import torch

    order = torch.argsort(scores, descending=True, stable=True)
    corners = boxes[order].float()
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    low = torch.maximum(corners[:, None, :2], corners[None, :, :2])
    high = torch.minimum(corners[:, None, 2:], corners[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    overlap = shared / (area[:, None] + area[None] - shared).clamp(min=1e-9)
    hit = (overlap > threshold).triu(1).cpu().numpy()
    alive = np.ones(len(order), bool)
    for i in range(len(order)):
        if alive[i]:
            alive &= ~hit[i]
    return order[torch.from_numpy(np.flatnonzero(alive)).to(order.device)]


def device_of(wanted: str) -> str:
    """``cpu`` or ``cuda``. Raises PosewatchError for a GPU that is not there."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise PosewatchError("device cuda was asked for, but torch sees no GPU (set device=cpu, or install CUDA)")
    return wanted


def placed(device: str) -> dict[str, Any]:
    """Ultralytics' options for a device: half precision on a GPU."""
    return {"device": device} if device == "cpu" else {"device": device, "quantize": 16}


def open_network(name: str, task: str) -> Any:
    """An ``ultralytics.YOLO`` of those weights: a name, or a .pt, .onnx or .yaml file (the last at random weights)."""
    need_torchvision()
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(weights.cache() / "ultralytics"))
    Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)
    try:
        from ultralytics import YOLO  # type: ignore[attr-defined]
    except ImportError:
        raise PosewatchError("this backend needs Ultralytics: pip install 'posewatch[yolo]'") from None
    path = weights.path(name)
    try:
        network = YOLO(str(path), task=task, verbose=False)
    except PosewatchError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{path} is not a YOLO network ({reason}; give a .pt or .onnx of task {task})") from None
    if network.task != task:
        raise WeightsError(f"{path} is a YOLO network for {network.task}, not for {task} (choose other weights)")
    return network


def person_classes(names: dict[int, str]) -> list[int]:
    """The class numbers that mean a person; all of them when none is called so, as of a network for people only."""
    people = [i for i, n in names.items() if n.lower() in ("person", "people", "pedestrian", "human")]
    return people or sorted(names)


def predict(network: Any, images: Sequence[Image], **options: Any) -> list[Any]:
    """Ultralytics' results for RGB pictures (H, W, 3); an exported network of a fixed batch sees them one by one."""
    pictures = [np.ascontiguousarray(image[..., ::-1]) for image in images]  # it takes numpy arrays for BGR
    batch = len(pictures) if str(network.ckpt_path or network.model_name).endswith((".pt", ".yaml")) else 1
    results: list[Any] = []
    for i in range(0, len(pictures), max(1, batch)):
        results += network.predict(pictures[i : i + batch], verbose=False, save=False, stream=False, **options)
    return results


def numpy(tensor: Any) -> NDArray[np.float32]:
    """A tensor of any device and kind as float32."""
    out: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return out
