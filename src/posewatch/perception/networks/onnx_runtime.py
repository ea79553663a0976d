"""What the networks on ONNX Runtime share: opening a file on a device, and fitting images into its input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import PosewatchError, WeightsError, first_line
from posewatch.perception.ports import Image

BATCH = 8
"""Images at a time where the file allows any number."""
_GREY = 114
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}


class Network:
    """An ONNX file with one image input (N, 3, H, W) float32.

    ``side`` is the input's (width, height), ``free`` where the file leaves them open; ``outputs`` names all outputs.
    Raises WeightsError for another kind of file, PosewatchError for a device that is not there.
    """

    def __init__(self, path: Path, device: str, free: tuple[int, int]) -> None:
        self._session = _session(path, device)
        given = self._session.get_inputs()
        shape = given[0].shape
        if len(given) != 1 or len(shape) != 4:
            raise WeightsError(f"{path} is not a network for images (its inputs: {', '.join(g.name for g in given)})")
        self._input = given[0].name
        self._fixed = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
        self.side = tuple(n if isinstance(n, int) else other for n, other in zip(shape[:1:-1], free, strict=True))
        self.outputs = tuple(o.name for o in self._session.get_outputs())
        self.batch = self._fixed or BATCH

    def run(self, data: NDArray[np.float32], outputs: tuple[str, ...]) -> list[NDArray[np.float32]]:
        """The named outputs for a batch (N, 3, H, W) of at most ``batch`` images."""
        count = len(data)
        if self._fixed is not None and count < self._fixed:
            data = np.concatenate([data, np.repeat(data[-1:], self._fixed - count, 0)])
        return [array[:count] for array in self._session.run(list(outputs), {self._input: data})]


def letterbox(
    image: Image, side: tuple[int, ...], whole: Callable[[float], int] = round
) -> tuple[NDArray[np.float32], float]:
    """An image as (3, H, W) BGR float32 in the top left corner of ``side`` (width, height) on grey, and its scale.

    ``whole`` makes whole numbers of the scaled width and height.
    """
    import cv2

    scale = min(side[0] / image.shape[1], side[1] / image.shape[0])
    inner = (max(1, whole(image.shape[1] * scale)), max(1, whole(image.shape[0] * scale)))
    canvas = np.full((side[1], side[0], 3), _GREY, np.uint8)
    canvas[: inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1), np.float32), scale


def _session(path: Path, device: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise PosewatchError("this network needs ONNX Runtime: pip install 'posewatch[rtmo]'") from None
    available = onnxruntime.get_available_providers()
    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "cuda" if "CUDAExecutionProvider" in available else "cpu"
    if _PROVIDERS[kind][0] not in available:
        raise PosewatchError(
            f"ONNX Runtime here has no {_PROVIDERS[kind][0]} (it has {', '.join(available)}; install onnxruntime-gpu)"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # parallel work is one process per video
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen = [(n, {"device_id": number} if number and n != "CPUExecutionProvider" else {}) for n in _PROVIDERS[kind]]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=chosen)
    except Exception as error:
        raise WeightsError(f"{path} is not an ONNX network ({first_line(error)}; fetch it again)") from None
