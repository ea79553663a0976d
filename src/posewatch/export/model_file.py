"""Shapes, types and metadata of an ONNX file, read without running it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posewatch.errors import InputError, first_line
from posewatch.inference.predictor import parse_labels

_TYPES = {
    "FLOAT": "TYPE_FP32",
    "FLOAT16": "TYPE_FP16",
    "DOUBLE": "TYPE_FP64",
    "INT64": "TYPE_INT64",
    "INT32": "TYPE_INT32",
    "INT8": "TYPE_INT8",
    "UINT8": "TYPE_UINT8",
    "UINT16": "TYPE_UINT16",
    "BOOL": "TYPE_BOOL",
}


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model: ``dims`` are those of one clip, without the batch; ``dtype`` is Triton's name."""

    name: str
    dtype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class ModelFile:
    """The tensors, class names and metadata_props of an exported ONNX file."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    labels: tuple[str, ...]
    metadata: dict[str, str]


def read_model(path: Path) -> ModelFile:
    """Read and check an exported ONNX file.

    Raises InputError for another kind of file, a fixed batch size, another dynamic dimension, or missing labels.
    """
    model = _load(path)
    stored = {i.name for i in model.graph.initializer}
    inputs = tuple(_tensor(path, value) for value in model.graph.input if value.name not in stored)
    outputs = tuple(_tensor(path, value) for value in model.graph.output)
    if [t.name for t in inputs] != ["keypoints"]:
        raise InputError(
            f"{path} has the inputs {[t.name for t in inputs]}: a posewatch model has one input, 'keypoints'"
        )
    if not any(t.name == "probabilities" for t in outputs):
        raise InputError(
            f"{path} has the outputs {[t.name for t in outputs]}: a posewatch model has an output 'probabilities'"
        )
    metadata = {p.key: p.value for p in model.metadata_props}
    labels = parse_labels(metadata.get("labels", ""), str(path))
    classes = next(t.dims for t in outputs if t.name == "probabilities")
    if classes != (len(labels),):
        raise InputError(f"{path} has {len(labels)} labels but its probabilities have the shape (N, {classes})")
    return ModelFile(inputs, outputs, labels, metadata)


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise InputError(f"no such ONNX file: {path}")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise InputError(f"{path} is not an ONNX file: {first_line(error)}") from None
    if not model.graph.output:
        raise InputError(f"{path} is not an ONNX file: it has no outputs")
    if any(i.data_location == onnx.TensorProto.EXTERNAL for i in model.graph.initializer):
        raise InputError(f"{path} has its weights in another file: export it with external_data=False")
    return model


def _tensor(path: Path, value: Any) -> Tensor:
    import onnx

    kind = value.type.tensor_type
    dtype = _TYPES.get(onnx.TensorProto.DataType.Name(kind.elem_type))
    if dtype is None:
        raise InputError(f"{path}: {value.name!r} has a type that is not served")
    shape = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
    if not shape or shape[0] is not None:
        raise InputError(
            f"{path}: the first dimension of {value.name!r} is fixed at {shape[0]}: export with a dynamic batch"
        )
    if any(not d for d in shape[1:]):
        raise InputError(f"{path}: {value.name!r} has the shape {shape}: only the batch may be dynamic")
    return Tensor(value.name, dtype, tuple(int(d) for d in shape[1:] if d))
