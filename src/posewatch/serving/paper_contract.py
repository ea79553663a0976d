"""The contract of the paper's served model, for clients that have it: ``input`` (N, 1, 100, 20, 3), ``output`` (N, K).

Such a client sends one person's 100 frames, relative to the hips, and appends three virtual joints, made of the wrong
ones (docs/from-the-paper.md). The graph in front of ours takes the 17 joints of the body and leaves the three out: ours
makes its own, as in training.
"""

from __future__ import annotations

from pathlib import Path

from posewatch.errors import InputError
from posewatch.export.model_file import ModelFile, Tensor, read_model
from posewatch.files import write_atomically

FRAMES, SENT, BODY = 100, 20, 17
INPUT, OUTPUT = "input", "output"


def wrap(onnx_path: Path, out: Path) -> ModelFile:
    """Write ``out``, the exported model ``onnx_path`` behind the paper's contract; returns its description.

    Raises InputError for a model that cannot answer such clients: it must take one person's 100 frames of COCO's 17
    joints, and have learned coordinates relative to the hips.
    """
    import onnx

    model = read_model(onnx_path)
    dims = model.inputs[0].dims
    if dims != (1, FRAMES, BODY, 3):
        raise InputError(
            f"the paper's clients send one person, {FRAMES} frames, {BODY} joints, the model takes {dims[0]}, "
            f"{dims[1]}, {dims[2]}: train it with train.people=1 and train.clip_frames={FRAMES}"
        )
    if model.metadata.get("features") != "hips":
        raise InputError(
            "the paper's clients send coordinates relative to the hips, the model takes pixels: train it with "
            "train.features=hips"
        )
    file = onnx.load(str(onnx_path))
    graph, helper = file.graph, onnx.helper
    kind = onnx.TensorProto.FLOAT
    bounds = {"first": [0], "end": [BODY], "axis": [3]}
    for name, value in bounds.items():
        graph.initializer.append(helper.make_tensor(f"paper_{name}", onnx.TensorProto.INT64, [1], value))
    taken = helper.make_node("Slice", [INPUT, *(f"paper_{name}" for name in bounds)], ["keypoints"], "paper_body")
    answer = helper.make_node("Identity", ["probabilities"], [OUTPUT], "paper_output")
    nodes = [taken, *graph.node, answer]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    classes = len(model.labels)
    graph.input.append(helper.make_tensor_value_info(INPUT, kind, ["N", 1, FRAMES, SENT, 3]))
    graph.output.append(helper.make_tensor_value_info(OUTPUT, kind, ["N", classes]))
    onnx.checker.check_model(file)
    write_atomically(out, file.SerializeToString(deterministic=True))
    inputs, outputs = Tensor(INPUT, "TYPE_FP32", (1, FRAMES, SENT, 3)), Tensor(OUTPUT, "TYPE_FP32", (classes,))
    return ModelFile((inputs,), (outputs,), model.labels, model.metadata)
