"""Writes a Triton model repository from an ONNX file, and from nothing else.

``config.pbtxt`` is written out in full, so that it means the same to the embedded server and to the Triton container.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posewatch.errors import InputError
from posewatch.serving.model_config import MAX_QUEUE, Batching, ServeOptions, check_config, quoted

KEPT = ("layout", "fps", "positive", "threshold", "version", "lineage", "precision")
"""The metadata of an exported file that the model's config hands on to clients."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_TYPES = {
    "FLOAT": "TYPE_FP32",
    "FLOAT16": "TYPE_FP16",
    "DOUBLE": "TYPE_FP64",
    "INT64": "TYPE_INT64",
    "INT32": "TYPE_INT32",
    "INT8": "TYPE_INT8",
    "UINT8": "TYPE_UINT8",
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
    """What an exported ONNX file says of itself; ``metadata`` are its metadata_props."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    labels: tuple[str, ...]
    metadata: dict[str, str]


def read_model(path: Path) -> ModelFile:
    """Read and check an exported ONNX file.

    Raises InputError when it is no ONNX file, freezes the batch, has another dimension open, or lacks its labels.
    """
    model = _load(path)
    stored = {i.name for i in model.graph.initializer}
    inputs = tuple(_tensor(path, value) for value in model.graph.input if value.name not in stored)
    outputs = tuple(_tensor(path, value) for value in model.graph.output)
    if [t.name for t in inputs] != ["keypoints"]:
        raise InputError(f"{path} takes {[t.name for t in inputs]}: a posewatch model has one input, 'keypoints'")
    if not any(t.name == "probabilities" for t in outputs):
        raise InputError(f"{path} gives {[t.name for t in outputs]}: a posewatch model has an output 'probabilities'")
    metadata = {p.key: p.value for p in model.metadata_props}
    labels = parse_labels(metadata.get("labels", ""), str(path))
    classes = next(t.dims for t in outputs if t.name == "probabilities")
    if classes != (len(labels),):
        raise InputError(f"{path} has {len(labels)} labels but its probabilities have the shape (N, {classes})")
    return ModelFile(inputs, outputs, labels, metadata)


def parse_labels(text: str, what: str) -> tuple[str, ...]:
    """The class names from the JSON list that a model carries. Raises InputError naming ``what``."""
    try:
        labels = json.loads(text)
    except ValueError:
        labels = None
    if not isinstance(labels, list) or not labels or not all(isinstance(x, str) and x.strip() for x in labels):
        raise InputError(f"{what} does not name its classes: metadata 'labels' must be a JSON list (export it again)")
    return tuple(labels)


def write_repository(
    onnx_path: Path,
    out: Path,
    *,
    name: str,
    max_batch: int = 16,
    queue_delay_us: int = 2000,
    instances: int = 2,
    dynamic_batching: bool = True,
    version: int = 1,
    max_queue: int = MAX_QUEUE,
    queue_timeout_us: int = 30_000_000,
    **options: Any,
) -> Path:
    """Write ``out/<name>/`` with ``config.pbtxt``, ``labels.txt`` and ``<version>/model.onnx``; returns that folder.

    An older ``out/<name>/`` is replaced as a whole. ``queue_delay_us`` is how long, in microseconds, a request may wait
    for company; ``options`` are the other fields of ``ServeOptions``. Raises InputError when a value is out of range or
    the ONNX file does not fit.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"bad model name {name!r}: use letters, digits, '-', '_' and '.'")
    if version < 1:
        raise InputError(f"version must be at least 1, not {version}")
    batching = Batching(queue_delay_us, max_queue, queue_timeout_us)
    how = ServeOptions(
        max_batch=max_batch, batching=batching if dynamic_batching else None, instances=instances, **options
    )
    model = read_model(onnx_path)
    text = config_text(model, name, how)
    check_config(text)
    out.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=out))
    try:
        part.chmod(0o755)
        (part / str(version)).mkdir()
        shutil.copyfile(onnx_path, part / str(version) / "model.onnx")
        (part / "labels.txt").write_text("".join(f"{label}\n" for label in model.labels), encoding="utf-8")
        (part / "config.pbtxt").write_text(text, encoding="utf-8")
        target = out / name
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def config_text(model: ModelFile, name: str, how: ServeOptions) -> str:
    """The text of ``config.pbtxt``."""
    lines = [f"name: {quoted(name)}", 'backend: "onnxruntime"', 'default_model_filename: "model.onnx"']
    lines += [f"max_batch_size: {how.max_batch}", "version_policy { latest { num_versions: 1 } }"]
    for tensor in model.inputs:
        lines.append(f"input {{ {_described(tensor)} }}")
    for tensor in model.outputs:
        labels = ' label_filename: "labels.txt"' if tensor.name == "probabilities" else ""
        lines.append(f"output {{ {_described(tensor)}{labels} }}")
    lines += how.lines()
    for size in how.warm_up_sizes():
        inputs = " ".join(_zeros(tensor) for tensor in model.inputs)
        lines.append(f'model_warmup {{ name: "batch_{size}" batch_size: {size} count: 1 {inputs} }}')
    # "1" (heuristic) keeps cuDNN from an exhaustive search, up to a second, at each new batch size; Triton reads it
    # here and nowhere else.
    settings = {
        "intra_op_thread_count": str(how.threads),
        "inter_op_thread_count": "1",
        "cudnn_conv_algo_search": "1",
        "labels": json.dumps(list(model.labels), ensure_ascii=False),
    }
    settings |= {k: model.metadata[k] for k in KEPT if k in model.metadata}
    lines += [f"parameters {{ key: {quoted(k)} value {{ string_value: {quoted(v)} }} }}" for k, v in settings.items()]
    return "\n".join(lines) + "\n"


def _described(tensor: Tensor) -> str:
    dims = ", ".join(map(str, tensor.dims))
    return f"name: {quoted(tensor.name)} data_type: {tensor.dtype} dims: [ {dims} ]"


def _zeros(tensor: Tensor) -> str:
    dims = ", ".join(map(str, tensor.dims))
    value = f"{{ data_type: {tensor.dtype} dims: [ {dims} ] zero_data: true }}"
    return f"inputs {{ key: {quoted(tensor.name)} value {value} }}"


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise InputError(f"no such ONNX file: {path}")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise InputError(f"{path} is not an ONNX file: {str(error).splitlines()[0]}") from None
    if not model.graph.output:
        raise InputError(f"{path} is not an ONNX file: it has no outputs")
    if any(i.data_location == onnx.TensorProto.EXTERNAL for i in model.graph.initializer):
        raise InputError(f"{path} keeps its weights in another file: export it with external_data=False")
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
            f"{path}: the first dimension of {value.name!r} is frozen to {shape[:1]}: export with a dynamic batch"
        )
    if any(not d for d in shape[1:]):
        raise InputError(f"{path}: {value.name!r} has the shape {shape}: only the batch may be open")
    return Tensor(value.name, dtype, tuple(int(d) for d in shape[1:] if d))
