"""Writes a Triton model repository from an ONNX file.

``config.pbtxt`` is complete, so that it means the same to the embedded server and to the Triton container.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from posewatch.errors import InputError
from posewatch.export.model_file import ModelFile, Tensor, read_model
from posewatch.files import umask
from posewatch.inference.predictor import METADATA
from posewatch.outputs import mark
from posewatch.serving.model_config import Batching, ServeOptions, config_text
from posewatch.serving.paper_contract import OUTPUT

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


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
    max_queue: int = 0,
    queue_timeout_us: int = 0,
    release: str = "",
    model: ModelFile | None = None,
    **options: Any,
) -> Path:
    """Write ``out/<name>/`` with ``config.pbtxt``, ``labels.txt`` and ``<version>/model.onnx``; returns that folder.

    An older ``out/<name>/`` is replaced as a whole. ``queue_delay_us`` is how long, in microseconds, a request may wait
    for others; ``release`` names the published version, so that a server can say which one it serves; ``model``
    describes a file of another contract; ``options`` are the other fields of ``ServeOptions``. Raises InputError for a
    value out of range, or an ONNX file that is not an exported model.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"bad model name {name!r}: use letters, digits, '-', '_' and '.'")
    batching = Batching(queue_delay_us, max_queue, queue_timeout_us)
    serve = ServeOptions(
        max_batch=max_batch, batching=batching if dynamic_batching else None, instances=instances, **options
    )
    model = model or read_model(onnx_path)
    content = hashlib.sha256(onnx_path.read_bytes()).hexdigest()
    text = config_text(_settings(model, name, serve, release, content))
    out.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=out))
    try:
        os.chmod(part, 0o777 & ~umask())
        (part / str(version)).mkdir()
        shutil.copyfile(onnx_path, part / str(version) / "model.onnx")
        (part / "labels.txt").write_text("".join(f"{label}\n" for label in model.labels), encoding="utf-8")
        (part / "config.pbtxt").write_text(text, encoding="utf-8")
        target = out / name
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
        for path in target.rglob("*"):
            mark(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _settings(model: ModelFile, name: str, options: ServeOptions, release: str, content: str) -> dict[str, Any]:
    """The fields of ``ModelConfig``."""
    outputs = [_description(tensor) for tensor in model.outputs]
    for output in outputs:
        if output["name"] in ("probabilities", OUTPUT):
            output["label_filename"] = "labels.txt"
    # of zeros a graph that skips absent persons would compute nothing
    data = "random_data" if "absent" in model.metadata else "zero_data"
    samples = {t.name: {"data_type": t.dtype, "dims": list(t.dims), data: True} for t in model.inputs}
    # "1" (heuristic) keeps cuDNN from an exhaustive search, up to a second, at each new batch size; Triton reads it
    # only here.
    parameters = {
        "intra_op_thread_count": str(options.threads),
        "inter_op_thread_count": "1",
        "cudnn_conv_algo_search": "1",
        "labels": json.dumps(list(model.labels), ensure_ascii=False),
    }
    parameters |= {k: model.metadata[k] for k in METADATA if k in model.metadata}
    if release:
        parameters["release"] = release
    return {
        "name": name,
        "backend": "onnxruntime",
        "default_model_filename": "model.onnx",
        "version_policy": {"latest": {"num_versions": 1}},
        "input": [_description(tensor) for tensor in model.inputs],
        "output": outputs,
        "model_warmup": [
            {"name": f"batch_{size}", "batch_size": size, "count": 1, "inputs": samples}
            for size in options.warmup_sizes()
        ],
        "parameters": {key: {"string_value": value} for key, value in parameters.items()},
        **options.settings(content),
    }


def _description(tensor: Tensor) -> dict[str, Any]:
    if not tensor.dims:  # one number for each clip, which Triton has no dims for
        return {"name": tensor.name, "data_type": tensor.dtype, "dims": [1], "reshape": {"shape": []}}
    return {"name": tensor.name, "data_type": tensor.dtype, "dims": list(tensor.dims)}
