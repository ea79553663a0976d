"""A part of an ONNX graph in fp16, the rest in fp32, with casts only where the two meet.

ONNX Runtime's own converter also casts the outputs of the nodes that it leaves in fp32: squared pixels between two of
those would overflow.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np

LARGEST = float(np.finfo(np.float16).max)


def to_half(model: Any, exact: Set[str]) -> Any:
    """The model computed in fp16 but for the nodes named in ``exact``; inputs and outputs stay fp32.

    Weights beyond fp16's range become its largest number.
    """
    from onnx import TensorProto, helper, numpy_helper, shape_inference

    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    weights = {i.name: i for i in graph.initializer if i.data_type == TensorProto.FLOAT}
    halves: set[str] = set()  # outputs of nodes that compute in fp16
    casts: dict[tuple[str, int], str] = {}  # (tensor, type) → the name of its cast to that type
    half_weights: dict[str, Any] = {}
    nodes: list[Any] = []

    def cast(name: str, to: int) -> str:
        if (name, to) not in casts:
            casts[name, to] = f"{name}_fp{16 if to == TensorProto.FLOAT16 else 32}"
            nodes.append(helper.make_node("Cast", [name], [casts[name, to]], to=to, name=f"cast_{casts[name, to]}"))
        return casts[name, to]

    def half_weight(name: str) -> str:
        values = np.clip(numpy_helper.to_array(weights[name]), -LARGEST, LARGEST).astype(np.float16)
        half_weights[name] = numpy_helper.from_array(values, f"{name}_half")
        return f"{name}_half"

    for original in model.graph.node:
        node = type(original)()
        node.CopyFrom(original)
        in_fp32 = node.name in exact or not any(o in floats for o in node.output)
        for i, name in enumerate(node.input):
            if in_fp32 and name in halves:
                node.input[i] = cast(name, TensorProto.FLOAT)
            elif not in_fp32 and name in weights:
                node.input[i] = half_weight(name)
            elif not in_fp32 and name in floats and name not in halves:
                node.input[i] = cast(name, TensorProto.FLOAT16)
        if not in_fp32:
            _retype(node)
            halves |= {o for o in node.output if o in floats}
        nodes.append(node)
    for name in sorted({o.name for o in graph.output} & halves):
        for node in nodes:
            for names in (node.input, node.output):
                names[:] = [f"{name}_half" if n == name else n for n in names]
        nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT, name=f"cast_{name}"))
    used = {name for node in nodes for name in node.input}
    initializers = [i for i in (*model.graph.initializer, *half_weights.values()) if i.name in used]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(initializers)
    return model


def _retype(node: Any) -> None:
    """Replace fp32 by fp16 in a node's attributes."""
    from onnx import TensorProto, numpy_helper

    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(attribute.t)
            attribute.t.CopyFrom(numpy_helper.from_array(values.astype(np.float16), attribute.t.name))
