"""A model run by OpenVINO on a CPU, with fixed shapes where clips allow it.

The embedded Triton's backend takes a copy of this file, so it imports nothing of posewatch.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

FIXED = 4
"""Shapes that are compiled for themselves, at most: each takes a second and the memory of one more instance."""


def package(folder: str = "") -> Any:
    """OpenVINO, from ``folder`` where it is not installed. Raises ImportError."""
    if folder and folder not in sys.path:
        sys.path.append(folder)
    import openvino

    return openvino


@cache
def _core(folder: str) -> Any:
    """The one core of this process, never let go.

    Each sets a signal stack and puts back what it found: after the end of the second of three, that is one which is
    gone, and the next signal ends the process.
    """
    return package(folder).Core()


class OpenVinoModel:
    """The ONNX file ``path``, for one thread at a time.

    OpenVINO fuses more where it knows all shapes. Those of our files depend on the number of clips and, inside, on how
    many persons are there: ``FIXED`` pairs of the two, of at most ``max_batch`` clips, get graphs of their own, all
    others the general one. The answers are the same. ``folder`` holds the package, "" where it is installed. Raises
    ImportError without it.
    """

    def __init__(self, path: str, *, folder: str = "", precision: str = "f32", threads: int = 1, max_batch: int = 1):
        self._ov, self._path = package(folder), path
        self._core = _core(folder)
        # Threads are not pinned to cores: two instances would share the first core.
        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": precision,
        }
        model = self._core.read_model(path)
        self.inputs = [port.get_any_name() for port in model.inputs]
        self.outputs = [name for port in model.outputs for name in sorted(port.get_names())]
        self._general = self._request(model)
        self._chosen = _chosen(model)
        self._present: Any = None
        if self._chosen:
            results = [node.output(0) for node in self._chosen]
            self._present = self._request(self._ov.Model(results, model.get_parameters(), "persons"))
        self._fixed: dict[tuple[int, int], Any] = {}
        for key in self._keys(max_batch):
            with suppress(RuntimeError):  # a graph whose shapes cannot be fixed is served as it is
                self._fixed[key] = self._for(*key)

    def run(self, outputs: list[str], feed: dict[str, Any]) -> list[Any]:
        """The outputs of one batch, by name: as ONNX Runtime's session does it."""
        given = {name: np.ascontiguousarray(array) for name, array in feed.items()}
        request = self._general
        if self._fixed:
            rows = {}
            if self._present is not None:
                self._present.infer(given)
                rows = {f"persons{i}": np.array(t.data) for i, t in enumerate(self._present.output_tensors)}
            counts = {found.shape[-1] for found in rows.values()} or {0}
            key = (len(next(iter(given.values()))), counts.pop())
            if not counts and key in self._fixed:
                request, given = self._fixed[key], given | rows
        request.infer(given)
        return [np.array(request.get_tensor(name).data) for name in outputs]

    def _keys(self, max_batch: int) -> list[tuple[int, int]]:
        """Clips and persons, the likeliest first: one person a clip, all that there may be, and what is between."""
        shape = self._general.model_inputs[0].get_partial_shape()
        if len(self.inputs) > 1 or not shape.rank.is_static or any(size.is_dynamic for size in list(shape)[1:]):
            return []
        people, keys = list(shape)[1].get_length(), []
        for clips in range(1, min(max_batch, FIXED) + 1):
            counts = range(1, clips * people + 1) if self._chosen else [0]
            keys += [(clips, n) for n in sorted(counts, key=lambda n: n not in (clips, clips * people))]
        return keys[:FIXED]

    def _for(self, clips: int, persons: int) -> Any:
        """The graph for ``clips`` with ``persons`` in them, whose indices become an input."""
        model = self._core.read_model(self._path)
        for i, node in enumerate(_chosen(model)):
            axes = node.output(0).get_partial_shape()[0].get_length()
            rows = self._ov.opset8.parameter([axes, persons], node.output(0).get_element_type())
            rows.output(0).get_tensor().set_names({f"persons{i}"})
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(rows.output(0))
            model.add_parameters([rows])
        shape = [clips, *(size.get_length() for size in list(model.inputs[0].get_partial_shape())[1:])]
        model.reshape({model.inputs[0]: shape})
        return self._request(model)

    def _request(self, model: Any) -> Any:
        return self._core.compile_model(model, "CPU", self._settings).create_infer_request()


def _chosen(model: Any) -> list[Any]:
    """The nodes that tell which persons are there."""
    return [node for node in model.get_ordered_ops() if node.get_type_name() == "NonZero"]
