"""Running a TensorFlow Lite network on one CPU thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from posewatch.errors import PosewatchError, WeightsError, first_line
from posewatch.quiet import quiet


class Network:
    """A network with one input. Raises WeightsError for a file that is not one."""

    def __init__(self, path: Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise PosewatchError("this network needs LiteRT: pip install 'posewatch[masking]'") from None
        with quiet(2):
            try:
                self._net = Interpreter(model_path=str(path), num_threads=1)
                self._net.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise WeightsError(
                    f"{path} is not a TensorFlow Lite network ({first_line(error)}; fetch it again)"
                ) from None
        self._input = int(self._net.get_input_details()[0]["index"])
        self._outputs = [int(d["index"]) for d in self._net.get_output_details()]
        self._shape: tuple[int, ...] = tuple(int(n) for n in self._net.get_input_details()[0]["shape"])

    def run(self, data: NDArray[Any]) -> list[NDArray[Any]]:
        """All outputs for one input; the input's shape may change from call to call where the network allows it."""
        if data.shape != self._shape:
            self._net.resize_tensor_input(self._input, data.shape)
            with quiet(2):
                self._net.allocate_tensors()
            self._shape = data.shape
        self._net.set_tensor(self._input, data)
        self._net.invoke()
        return [self._net.get_tensor(i) for i in self._outputs]
