"""The description of an exported file: inputs, outputs, metadata, operators."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np


def describe(path: Path) -> dict[str, Any]:
    """Inputs, outputs, metadata, operators, number of weights, opset and digest of an exported file."""
    import onnx

    from posewatch.export.model_file import read_model

    file = read_model(path)
    model = onnx.load(str(path))
    data = path.read_bytes()

    def text(tensor: Any) -> str:
        return f"{tensor.name} {tensor.dtype.removeprefix('TYPE_')} ({', '.join(['N', *map(str, tensor.dims)])})"

    return {
        "inputs": [text(t) for t in file.inputs],
        "outputs": [text(t) for t in file.outputs],
        "precision": file.metadata.get("precision", "fp32"),
        "opset": next((o.version for o in model.opset_import if o.domain == ""), 0),
        "weights": int(sum(np.prod(i.dims, dtype=np.int64) for i in model.graph.initializer)),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "operators": dict(Counter(n.op_type for n in model.graph.node).most_common()),
        "metadata": file.metadata,
    }
