"""Exported models in smaller precisions: what they cost, that too dear ones are refused, and what a file tells."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_models import tiny_model

from posewatch.cli import main as cli
from posewatch.config import TrainConfig
from posewatch.datasets import layouts
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.pyskl import write_pyskl
from posewatch.errors import InputError, ServingError
from posewatch.export.onnx import export, synthetic_clips
from posewatch.export.precision import Judge, convert, front
from posewatch.inference.onnx_runtime import OnnxPredictor

SHAPE = (2, 12, 17, 3)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained ProtoGCN as checkpoint.pt and model.onnx, and labelled clips that it is right about."""
    import torch

    from posewatch.recognition.recogniser import Recogniser, save

    folder = tmp_path_factory.mktemp("precision")
    torch.manual_seed(2)
    config = TrainConfig(width=0.1, clip_frames=12, model_options={"prototypes": 4})
    made = Recogniser(config, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save(folder / "checkpoint.pt", made, made.state_dict())
    export(folder / "checkpoint.pt", folder / "model.onnx")
    clips = np.clip(synthetic_clips(40, SHAPE), 0, 4000)[1:-1]
    truth = OnnxPredictor(folder / "model.onnx").predict(clips).probabilities.argmax(1)
    ids = tuple(f"clip{i}" for i in range(len(clips)))
    some = ClipSet(tuple(clips), truth, made.labels, ids, ids)
    write_pyskl(folder / "clips.pkl", some, {"train": list(range(26)), "test": list(range(26, 38))})
    return folder


def _judge(exported: Path, limit: float = 10.0) -> tuple[Judge, np.ndarray]:
    clips = np.clip(synthetic_clips(40, SHAPE), 0, 4000)[1:-1]
    truth = OnnxPredictor(exported / "model.onnx").predict(clips).probabilities.argmax(1)
    return Judge(clips[26:], truth[26:], limit), clips[:26]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 5e-3), ("bf16", 2e-2), ("int8", 0.25)])
def test_a_smaller_precision(exported: Path, tmp_path: Path, precision: str, tolerance: float) -> None:
    judge, calibration = _judge(exported)
    report = convert(exported / "model.onnx", tmp_path / "m.onnx", precision, judge, calibration=calibration)
    assert 0 < report["max_abs_difference"] < tolerance
    assert (report["accuracy_fp32"], report["clips"]) == (100.0, 12)
    assert report["points_lost"] == round(100 - report["accuracy"], 3) <= 10
    predictor = OnnxPredictor(tmp_path / "m.onnx")
    assert predictor.metadata["precision"] == precision
    assert predictor.labels == ("normal", "abnormal")
    for n in (1, 3, 8):  # N stays open
        assert predictor.predict(synthetic_clips(n, SHAPE)).probabilities.shape == (n, 2)
    weights = onnx.load(tmp_path / "m.onnx").graph.initializer
    kinds = {onnx.TensorProto.DataType.Name(i.data_type) for i in weights}
    assert {"fp16": "FLOAT16", "bf16": "BFLOAT16", "int8": "INT8"}[precision] in kinds
    bf16 = [weight for weight in weights if weight.data_type == onnx.TensorProto.BFLOAT16]
    assert not any(len(weight.int32_data) for weight in bf16), "OpenVINO reads raw data only"
    again = convert(exported / "model.onnx", tmp_path / "n.onnx", precision, judge, calibration=calibration)
    assert again == report
    assert (tmp_path / "m.onnx").read_bytes() == (tmp_path / "n.onnx").read_bytes()


@pytest.mark.parametrize("runtime", ["openvino", "tensorrt"])
def test_int8_for_a_runtime_that_fuses(exported: Path, tmp_path: Path, runtime: str) -> None:
    """What enters a layer is quantised, once also where it is split ahead of several; nothing else is."""
    judge, calibration = _judge(exported)
    report = convert(
        exported / "model.onnx", tmp_path / "m.onnx", "int8", judge, calibration=calibration, runtime=runtime
    )
    assert 0 < report["max_abs_difference"] < 0.25
    assert (report["precision"], report["int8_for"]) == ("int8", runtime)
    metadata = OnnxPredictor(tmp_path / "m.onnx").metadata
    assert (metadata["precision"], metadata["int8_for"]) == ("int8", runtime)
    graph = onnx.load(tmp_path / "m.onnx").graph
    made = {name: node for node in graph.node for name in node.output}
    entered: Counter[str] = Counter()
    for node in graph.node:
        takes = [made[name].op_type for name in node.input if name in made]
        if node.op_type in ("Conv", "Gemm", "Split"):
            assert set(takes) <= {"DequantizeLinear"} or node.op_type == "Split", node.name
            entered[node.op_type] += takes.count("DequantizeLinear") > 0
        elif node.op_type == "MatMul":
            assert "DequantizeLinear" not in takes, node.name
        elif node.op_type == "QuantizeLinear":
            assert not {"Conv", "Gemm"} & set(takes), "results stay as they are"
    assert entered["Conv"] > 50
    assert entered["Split"] >= 2 * 4, "joints and the mean joint of four blocks"


def test_far_pixels_survive_fp16(exported: Path, tmp_path: Path) -> None:
    """The same people in the corner of a wide picture: were pixels halved, they would lose their shape."""
    judge, _ = _judge(exported)
    convert(exported / "model.onnx", tmp_path / "m.onnx", "fp16", judge)
    clips = synthetic_clips(8, SHAPE)[1:7]
    far = clips.copy()
    far[..., :2] += 7000 * (clips[..., 2:] > 0)
    small = OnnxPredictor(tmp_path / "m.onnx")
    exact = OnnxPredictor(exported / "model.onnx")
    np.testing.assert_allclose(small.predict(far).probabilities, exact.predict(far).probabilities, atol=5e-3)


def test_what_works_on_pixels(exported: Path) -> None:
    model = onnx.load(exported / "model.onnx")
    names = front(model)
    kinds = Counter(n.op_type for n in model.graph.node if n.name in names)
    assert kinds["Conv"] == 0
    assert len(names) > 20
    assert model.graph.node[0].name in names


def test_too_dear_is_refused(exported: Path, tmp_path: Path) -> None:
    judge, _ = _judge(exported)
    wrong = Judge(judge.keypoints, judge.truth, limit=0.5)
    with pytest.raises(ServingError, match=r"bf16 loses 100\.00 points .* more than 0\.5: use fp32"):
        convert(
            exported / "model.onnx",
            tmp_path / "m.onnx",
            "bf16",
            wrong,
            computed=lambda clips: np.eye(2, dtype=np.float32)[1 - judge.truth],
        )
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_converted(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs training clips"):
        convert(exported / "model.onnx", tmp_path / "m.onnx", "int8", _judge(exported)[0], calibration=None)
    with pytest.raises(InputError, match="one of onnxruntime, openvino, tensorrt, not tvm"):
        convert(exported / "model.onnx", tmp_path / "m.onnx", "fp16", _judge(exported)[0], runtime="tvm")
    with pytest.raises(InputError, match="cannot judge"):
        Judge(np.zeros((2, *SHAPE), np.float32), np.zeros(1, np.int64))
    assert not list(tmp_path.iterdir())


def test_the_command(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bf16.onnx"
    told = ["export", str(exported / "checkpoint.pt"), "--out", str(out), "--precision", "bf16"]
    assert cli.main([*told]) == 2
    assert "--annotations FILE.pkl" in capsys.readouterr().err
    assert cli.main([*told, "--runtime", "openvino"]) == 2
    assert "give --precision int8 as well" in capsys.readouterr().err
    assert cli.main([*told, "--annotations", str(exported / "clips.pkl"), "--split", "none"]) == 2
    assert "no split is named 'none'; the file has test, train (choose one by --split)" in capsys.readouterr().err
    assert cli.main([*told, "--annotations", str(exported / "clips.pkl"), "--max-drop", "50"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["precision"], report["clips"], report["labels"]) == ("bf16", 12, ["normal", "abnormal"])
    assert report["max_abs_error"] <= 1e-4
    int8 = [*told[:3], str(tmp_path / "int8.onnx"), "--precision", "int8", "--runtime", "openvino", "--max-drop", "50"]
    assert cli.main([*int8, "--annotations", str(exported / "clips.pkl")]) == 0
    assert json.loads(capsys.readouterr().out)["int8_for"] == "openvino"
    assert cli.main(["onnx", "inspect", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["precision"], found["opset"], found["inputs"]) == ("bf16", 18, ["keypoints FP32 (N, 2, 12, 17, 3)"])
    assert found["bytes"] == out.stat().st_size
    assert cli.main(["onnx", "inspect", str(out)]) == 0
    assert "networks    protogcn x0.1 on j+b+jm" in capsys.readouterr().out


def test_inspecting_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.onnx").write_text("text")
    assert cli.main(["onnx", "inspect", str(tmp_path / "m.onnx")]) == 2
    assert "is not an ONNX file" in capsys.readouterr().err
    assert cli.main(["onnx", "inspect", str(tiny_model(tmp_path / "t.onnx"))]) == 0
    assert "precision   fp32" in capsys.readouterr().out
