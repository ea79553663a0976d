"""What the networks on PyTorch share: choosing the device, and a torchvision that works beside any build of torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import PosewatchError
from posewatch.perception.tracking.matching import iou, suppress

_LIBRARIES: list[Any] = []
"""Operators defined here; they exist as long as this list holds them."""


def device_of(wanted: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` prefers the GPU. Raises PosewatchError for TensorRT, and without a GPU."""
    import torch

    if wanted == "tensorrt":
        raise PosewatchError("this network runs on PyTorch, not on TensorRT (set pose.device to auto, cpu or cuda)")

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise PosewatchError("the configured device is cuda, but torch finds no GPU (set device=cpu, or install CUDA)")
    return wanted


def numpy(tensor: Any) -> NDArray[np.float32]:
    """A tensor of any device and type as float32."""
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array


def person_classes(names: Mapping[int, str]) -> list[int]:
    """The class numbers named like a person; all of them when no name is, as in a network trained on people only."""
    people = [i for i, n in names.items() if n.lower() in ("person", "people", "pedestrian", "human")]
    return people or sorted(names)


def need_torchvision() -> None:
    """Make ``import torchvision`` work where its compiled operators do not fit the installed torch.

    torchvision's wheel is linked to CUDA and fails beside a CPU build of torch. The networks need one of its operators,
    non-maximum suppression, which is then defined here.
    """
    import torch

    try:
        import torchvision

        torch.ops.torchvision.nms  # noqa: B018
        return
    except ImportError:
        raise PosewatchError("this network needs torchvision: pip install 'posewatch[yolo]' or [sam2]") from None
    except (RuntimeError, AttributeError):
        pass
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.impl(name, _nms, "CompositeExplicitAutograd")
    _LIBRARIES.append(library)
    import torchvision
    from torchvision import extension

    extension._assert_has_ops = lambda: None
    torchvision.ops.boxes._assert_has_ops = lambda: None


def _nms(boxes: Any, scores: Any, threshold: float) -> Any:
    """Indices, best first, of the boxes (N, 4) that overlap no better one by more than ``threshold``."""
    import torch

    corners = numpy(boxes)
    return torch.tensor(suppress(numpy(scores), iou(corners, corners) > threshold), dtype=torch.int64).to(boxes.device)
