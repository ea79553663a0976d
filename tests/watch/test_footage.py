"""The whole way of a model of single persons: a rendered video of two people, MoveNet, an ONNX file, records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from posewatch import alarms
from posewatch.cli.main import main
from posewatch.footage.make import make_footage
from posewatch.store import FolderStore

FALLS = 4
"""The seed with which video 1 shows one person who falls while another one stands beside."""


def lying_model(path: Path) -> Path:
    """An ONNX file of a model of single persons: how flat the trunk lies, in the mean of the frames."""
    trunk = np.zeros((17, 1), np.float32)
    trunk[[5, 6, 11, 12], 0] = -0.5, -0.5, 0.5, 0.5
    nodes = [
        helper.make_node("Split", ["keypoints"], ["x", "y", "s"], axis=4, num_outputs=3),
        *(
            node
            for name in "xy"
            for node in (
                helper.make_node("Squeeze", [name, "last"], [f"{name}v"]),
                helper.make_node("MatMul", [f"{name}v", "trunk"], [f"{name}t"]),
                helper.make_node("Abs", [f"{name}t"], [f"{name}a"]),
                helper.make_node("ReduceMean", [f"{name}a", "frames"], [f"{name}m"], keepdims=0),
            )
        ),
        helper.make_node("Sub", ["xm", "ym"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("Identity", ["logits"], ["embedding"]),
    ]
    constants = [
        numpy_helper.from_array(trunk, "trunk"), numpy_helper.from_array(np.array([4]), "last"),
        numpy_helper.from_array(np.array([1, 2, 3]), "frames"),
        numpy_helper.from_array(np.array([[-0.1, 0.1]], np.float32), "scale"),
    ]  # fmt: skip
    nodes.insert(-3, helper.make_node("Unsqueeze", ["flat", "one"], ["flat1"]))
    nodes[-3] = helper.make_node("Mul", ["flat1", "scale"], ["logits"])
    constants.append(numpy_helper.from_array(np.array([1]), "one"))
    inputs = [helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, ["N", 1, 12, 17, 3])]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2]) for n in ("probabilities", "embedding")]
    model = helper.make_model(
        helper.make_graph(nodes, "lying", inputs, outputs, constants), ir_version=10,
        opset_imports=[helper.make_opsetid("", 18)],
    )  # fmt: skip
    told = {"layout": "coco17", "fps": "10.0", "positive": "abnormal", "unit": "person"}
    helper.set_model_props(model, {**told, "labels": json.dumps(["normal", "abnormal"])})
    onnx.save(model, str(path))
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("real_networks")
def test_who_falls_is_told_from_who_stands_beside(tmp_path: Path) -> None:
    video = make_footage(tmp_path / "footage", videos=2, seed=FALLS, workers=1)[1]
    model, out = lying_model(tmp_path / "lying.onnx"), tmp_path / "out"
    words = ["watch", str(video.path), "--model", str(model), "--out", str(out), "--set", "mask.unit=person"]
    words += [
        "--record",
        "--samples",
        "0",
        "--store",
        str(tmp_path / "store"),
        "--window-s",
        "1.5",
        "--long-lie-s",
        "2",
    ]
    assert main(words) == 0
    messages = [json.loads(line) for line in (out / "alarms.jsonl").read_text().splitlines()]
    fell = next(start for start, _, label in video.labels if label == "abnormal")
    first = messages[0]
    assert fell - 1.0 <= first["start_s"] <= fell + 2.0
    truth = np.load(video.truth)
    boxes = truth["boxes"][round(first["raised_s"] * 10)]  # person 0 of the truth falls
    (record,) = (r for r in alarms.records(FolderStore(tmp_path / "store")) if r.id == first["id"])
    row = next(r for r in record.artifact.lines(alarms.PEOPLE) if r["time_s"] >= first["raised_s"])
    box = next(one["box"] for one in row["people"] if one["id"] == first["person"])
    centre = (box[0] + box[2]) / 2
    assert abs(centre - (boxes[0][0] + boxes[0][2]) / 2) < abs(centre - (boxes[1][0] + boxes[1][2]) / 2)
    assert {m["person"] for m in messages} == {first["person"]}
    assert any(m.get("rule") == "long_lie" for m in messages)
