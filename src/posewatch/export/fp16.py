"""A part of an ONNX graph in fp16, the rest in fp32, with casts only where the two meet.

The converter that comes with ONNX Runtime casts the result of every node that it shall leave alone, so that pixels
squared overflow between two fp32 nodes.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np

LARGEST = float(np.finfo(np.float16).max)


def to_half(model: Any, kept: Set[str]) -> Any:
    """The model with all floating-point work in fp16 but for the nodes named in ``kept``; inputs and outputs stay
    fp32. Weights beyond fp16's range become its largest number.
    """
    from onnx import TensorProto, helper, numpy_helper, shape_inference

    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    weights = {i.name: i for i in graph.initializer if i.data_type == TensorProto.FLOAT}
    results = {o.name for o in graph.output}
    halves: set[str] = set()  # tensors that a node gives in fp16
    have: dict[tuple[str, int], str] = {}  # (tensor, type) → what it is called in that type
    nodes: list[Any] = []
    small: dict[str, Any] = {}

    def cast(name: str, to: int) -> str:
        if (name, to) not in have:
            have[name, to] = f"{name}_fp{16 if to == TensorProto.FLOAT16 else 32}"
            nodes.append(helper.make_node("Cast", [name], [have[name, to]], to=to, name=f"cast_{have[name, to]}"))
        return have[name, to]

    def half_weight(name: str) -> str:
        values = np.clip(numpy_helper.to_array(weights[name]), -LARGEST, LARGEST).astype(np.float16)
        small[name] = numpy_helper.from_array(values, f"{name}_half")
        return f"{name}_half"

    for node in model.graph.node:
        made = type(node)()
        made.CopyFrom(node)
        keep = node.name in kept or not any(o in floats for o in node.output)
        for i, name in enumerate(node.input):
            if keep and name in halves:
                made.input[i] = cast(name, TensorProto.FLOAT)
            elif not keep and name in weights:
                made.input[i] = half_weight(name)
            elif not keep and name in floats and name not in halves:
                made.input[i] = cast(name, TensorProto.FLOAT16)
        if not keep:
            _retype(made)
            halves |= {o for o in node.output if o in floats}
        nodes.append(made)
    for name in sorted(results & halves):
        for made in nodes:
            for i, output in enumerate(made.output):
                if output == name:
                    made.output[i] = f"{name}_half"
            for i, given in enumerate(made.input):
                if given == name:
                    made.input[i] = f"{name}_half"
        nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT, name=f"cast_{name}"))
    used = {name for made in nodes for name in made.input}
    stored = [i for i in model.graph.initializer if i.name in used] + [w for w in small.values() if w.name in used]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(stored)
    return model


def _retype(node: Any) -> None:
    """Let a node that names a type in its attributes name fp16 where it named fp32."""
    from onnx import TensorProto, numpy_helper

    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(attribute.t)
            attribute.t.CopyFrom(numpy_helper.from_array(values.astype(np.float16), attribute.t.name))
