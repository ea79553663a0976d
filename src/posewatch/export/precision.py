"""An exported model in a lower precision (fp16, bf16 or int8), the accuracy that it costs, and a limit to that.

fp16  weights and activations; for GPUs (a CPU computes it in fp32)
bf16  weights; computed in bf16 where the server's accelerator is configured for it, in fp32 elsewhere
int8  weights and activations of convolutions and products, static: ranges measured on training clips. The CPU kernels
      of ONNX Runtime are for layers whose results are quantised as well; OpenVINO and TensorRT want what enters a
      layer quantised and nothing else

The nodes ahead of the first layer with weights work on raw pixels and stay in fp32: in fp16 a joint at 1,500 px has a
resolution of one pixel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, ServingError
from posewatch.export.model_file import read_model
from posewatch.files import atomic
from posewatch.inference.onnx_runtime import OnnxPredictor

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
RUNTIMES = ("onnxruntime", "openvino", "tensorrt")
HEAVY = ("Conv", "Gemm", "MatMul")
DELICATE = (
    "Softmax",
    "Div",
    "Sqrt",
    "Pow",
    "Reciprocal",
    "Exp",
    "Clip",
    "Max",
    "ReduceL2",
    "ReduceSum",
    "ReduceSumSquare",
)
"""Operators of norms and ratios, which stay in fp32 where the rest is fp16: the constants that guard against a division
by zero are below the smallest number of fp16.
"""
CALIBRATION = 64
"""Clips that the ranges of int8 are measured on, spread evenly over those given."""
Clips = NDArray[np.float32]


@dataclass(frozen=True)
class Judge:
    """Labelled clips that a precision is judged on: ``keypoints`` (N, M, T, V, 3), ``truth`` (N,) class indices.

    ``limit`` is the largest drop of accuracy that is accepted, in points (0 to 100).
    """

    keypoints: Clips
    truth: NDArray[np.int64]
    limit: float = 0.5

    def __post_init__(self) -> None:
        if not len(self.truth) or len(self.truth) != len(self.keypoints):
            raise InputError(f"{len(self.keypoints)} clips with {len(self.truth)} labels cannot judge a precision")

    def cost(self, exact: NDArray[np.float32], other: NDArray[np.float32]) -> dict[str, Any]:
        """Probabilities (N, K) in fp32 and in another precision → accuracies, drop (points), agreement, difference."""
        before, after = (float((p.argmax(1) == self.truth).mean() * 100) for p in (exact, other))
        return {
            "clips": len(self.truth),
            "accuracy_fp32": round(before, 3),
            "accuracy": round(after, 3),
            "points_lost": round(before - after, 3),
            "agreement": round(float((exact.argmax(1) == other.argmax(1)).mean()), 5),
            "max_abs_difference": round(float(np.abs(exact - other).max()), 5),
        }

    def require(self, cost: dict[str, Any], what: str) -> None:
        """Raises ServingError when the drop is above the limit."""
        if cost["points_lost"] > self.limit:
            raise ServingError(
                f"{what} loses {cost['points_lost']:.2f} points of accuracy ({cost['accuracy_fp32']:.2f} → "
                f"{cost['accuracy']:.2f} on {cost['clips']} clips), more than {self.limit:g}: "
                "use fp32, or raise --max-drop"
            )


def convert(
    source: Path,
    out: Path,
    precision: str,
    judge: Judge,
    *,
    calibration: Clips | None = None,
    runtime: str = "onnxruntime",
    computed: Callable[[Clips], NDArray[np.float32]] | None = None,
) -> dict[str, Any]:
    """Write the fp32 model ``source`` in another precision to ``out``; returns its cost and the bytes of both files.

    ``calibration`` (N, M, T, V, 3) are training clips, for int8, and ``runtime`` what an int8 file is for. ``computed``
    maps clips to probabilities as a runtime in that precision computes them, where the file alone does not show it
    (bf16). Raises InputError for what cannot be converted, ServingError when accuracy drops by more than ``judge``
    allows; ``out`` is not written then.
    """
    import onnx

    if runtime not in RUNTIMES:
        raise InputError(f"an int8 file is for one of {', '.join(RUNTIMES)}, not {runtime}")
    if precision == "int8" and (calibration is None or not len(calibration)):
        raise InputError("int8 needs training clips to measure ranges on: --annotations and --train-split")
    metadata = read_model(source).metadata
    exact = OnnxPredictor(source).predict(judge.keypoints).probabilities
    model = {"fp16": _fp16, "bf16": _bf16, "int8": lambda path: _int8(path, calibration, runtime)}[precision](source)
    del model.metadata_props[:]
    told = {"precision": precision} | ({"int8_for": runtime} if precision == "int8" else {})
    onnx.helper.set_model_props(model, {**metadata, **told})
    data = model.SerializeToString(deterministic=True)
    with atomic(out) as partial:
        partial.write_bytes(data)
        cost = judge.cost(exact, OnnxPredictor(partial).predict(judge.keypoints).probabilities)
        if computed is not None:
            other = judge.cost(exact, computed(judge.keypoints))
            cost = max(cost, other, key=lambda c: (c["points_lost"], c["max_abs_difference"]))
        judge.require(cost, precision)
    return {**told, **cost, "bytes": len(data), "bytes_fp32": source.stat().st_size}


def front(model: Any) -> set[str]:
    """The names of the nodes that work on raw keypoints: all ahead of the first layers with weights."""
    weights = {i.name for i in model.graph.initializer}
    # Products with constant matrices also compute streams and virtual joints from raw keypoints.
    layers = ("Conv", "Gemm") if any(node.op_type == "Conv" for node in model.graph.node) else HEAVY
    behind: set[str] = set()
    names = set()
    for node in model.graph.node:  # in topological order
        heavy = node.op_type in layers and any(name in weights for name in node.input)
        if heavy or any(name in behind for name in node.input):
            behind.update(node.output)
        else:
            names.add(node.name)
    return names


def _named(source: Path) -> Any:
    """The model with a name for every node."""
    import onnx

    model = onnx.load(str(source))
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{i}"
    return model


def _fp16(source: Path) -> Any:
    from posewatch.export.fp16 import to_half

    model = _named(source)
    return to_half(model, front(model) | {n.name for n in model.graph.node if n.op_type in DELICATE})


def _bf16(source: Path) -> Any:
    """The weights of the layers as bf16, cast to float when a session opens the model: half the file, and the weights
    that a runtime in bf16 computes with.
    """
    import ml_dtypes
    import onnx
    from onnx import TensorProto, numpy_helper

    model = _named(source)
    used = {name for node in model.graph.node if node.op_type in HEAVY for name in node.input}
    casts = []
    for i, weight in enumerate(model.graph.initializer):
        if weight.name not in used or weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        # As raw bytes: OpenVINO reads NaN from the other encoding that ONNX allows, a list of numbers.
        half = numpy_helper.from_array(values.astype(ml_dtypes.bfloat16), f"{weight.name}_bf16")
        casts.append(onnx.helper.make_node("Cast", [half.name], [weight.name], to=TensorProto.FLOAT, name=f"bf16_{i}"))
        model.graph.initializer[i].CopyFrom(half)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _int8(source: Path, calibration: Any, runtime: str) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    picked = np.linspace(0, len(calibration) - 1, min(CALIBRATION, len(calibration))).round().astype(int)

    class Reader(CalibrationDataReader):
        """The calibration clips, eight at a time."""

        def __init__(self) -> None:
            self._parts = iter([calibration[picked[i : i + 8]] for i in range(0, len(picked), 8)])

        def get_next(self) -> dict[str, Any] | None:
            part = next(self._parts, None)
            return None if part is None else {"keypoints": part}

    kinds, plain = list(HEAVY), []
    if runtime != "onnxruntime":
        # Products of activations stay in fp32; what is split ahead of several convolutions is quantised once.
        kinds, plain = ["Conv", "Gemm", "Split"], ["Conv", "Gemm"]
    with tempfile.TemporaryDirectory(prefix="posewatch-precision-") as folder:
        named, prepared, quantised = (Path(folder) / f"{name}.onnx" for name in ("named", "prepared", "quantised"))
        onnx.save(_named(source), str(named))
        quant_pre_process(str(named), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantised),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=kinds,
            nodes_to_exclude=sorted(front(onnx.load(str(prepared)))),
            extra_options={
                "ActivationSymmetric": False,
                "DedicatedQDQPair": False,
                "OpTypesToExcludeOutputQuantization": plain,
            },
        )
        return onnx.load(str(quantised))
