"""Tiny ONNX models that keep the contract of an export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (2, 6, 17, 3)
LABELS = ["normal", "abnormal"]


def tiny_model(
    path: Path,
    *,
    seed: int = 0,
    batch: str | int = "N",
    labels: object = LABELS,
    shape: tuple[int, ...] = SHAPE,
    novelty: bool = False,
    absent: str = "",
) -> Path:
    """keypoints → mean over M, T, V → linear → softmax; with ``novelty`` also the sum of the means, (N,)."""
    weight = np.random.default_rng(seed).normal(size=(3, 2)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["keypoints", "axes"], ["embedding"], keepdims=0),
        helper.make_node("MatMul", ["embedding", "weight"], ["logits"]),
    ]
    constants = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array([1, 2, 3]), "axes")]
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    inputs = [helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, [batch, *shape])]
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, 2]),
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, 3]),
    ]
    if novelty:
        constants.append(numpy_helper.from_array(np.array([1]), "last"))
        nodes.append(helper.make_node("ReduceSum", ["embedding", "last"], ["novelty"], keepdims=0))
        outputs.append(helper.make_tensor_value_info("novelty", TensorProto.FLOAT, [batch]))
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    told = {
        "layout": "coco17",
        "frames": "6",
        "people": "2",
        "fps": "10.0",
        "positive": "abnormal",
        "lineage": "0" * 64,
    }
    if absent:
        told["absent"] = absent
    if labels is not None:
        told["labels"] = labels if isinstance(labels, str) else json.dumps(labels)
    helper.set_model_props(model, told)
    onnx.save(model, str(path))
    return path


def slow_model(path: Path, products: int = 8, side: int = 512) -> Path:
    """The answers of ``tiny_model``; a clip takes a core some tens of milliseconds, by itself or among others."""
    model = onnx.load(str(tiny_model(path)))
    constants = {
        "square": np.eye(side, dtype=np.float32),
        "sides": np.array([1, 2]),
        "one": np.array([1]),
        "nothing": np.float32(1e-20),
    }
    nodes = [
        helper.make_node("ReduceMax", ["keypoints", "axes"], ["largest"], keepdims=0),  # (N, 3)
        helper.make_node("ReduceMax", ["largest", "one"], ["number"], keepdims=1),
        helper.make_node("Unsqueeze", ["number", "one"], ["cell"]),  # (N, 1, 1)
        helper.make_node("Mul", ["cell", "square"], ["product0"]),
        *(helper.make_node("MatMul", [f"product{i}", "square"], [f"product{i + 1}"]) for i in range(products)),
        helper.make_node("ReduceMean", [f"product{products}", "sides"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Mul", ["column", "nothing"], ["added"]),
        helper.make_node("Add", ["logits", "added"], ["sum"]),
    ]
    softmax = model.graph.node.pop()
    softmax.input[0] = "sum"
    model.graph.node.extend([*nodes, softmax])
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    onnx.save(model, str(path))
    return path
