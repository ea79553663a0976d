"""An exported model that takes 16-bit keypoints: the decoder stands before its graph (``inference/quantised.py``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posewatch.errors import InputError
from posewatch.export.model_file import read_model
from posewatch.files import write_atomically
from posewatch.inference.quantised import ORIGIN, STEPS, WIRE


def quantise(onnx_path: Path, out: Path) -> None:
    """Write ``out``, the exported model ``onnx_path`` for clients that send 16-bit keypoints.

    Raises InputError for a model of coordinates relative to the hips, which are fractions of a pixel.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    metadata = read_model(onnx_path).metadata
    if metadata.get("features") == "hips":
        raise InputError(
            f"{onnx_path} takes coordinates relative to the hips, in which a sixteenth of a pixel is coarse: "
            "leave serving.wire at float32"
        )
    model = onnx.load(str(onnx_path))
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["keypoints_decoded" if name == "keypoints" else name for name in node.input]
    for name, values in (
        ("wire_scale", 1 / np.array(STEPS, np.float32)),
        ("wire_origin", np.array(ORIGIN, np.float32)),
    ):
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    decoder = [
        helper.make_node("Cast", ["keypoints"], ["keypoints_float"], "wire_cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["keypoints_float", "wire_scale"], ["keypoints_scaled"], "wire_scaled"),
        helper.make_node("Sub", ["keypoints_scaled", "wire_origin"], ["keypoints_decoded"], "wire_decoded"),
    ]
    nodes = [*decoder, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT16
    helper.set_model_props(model, {**metadata, "wire": WIRE})
    onnx.checker.check_model(model)
    write_atomically(out, model.SerializeToString(deterministic=True))
