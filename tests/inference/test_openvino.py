"""The accelerator ``openvino`` of the embedded server, where it is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posewatch.config import TrainConfig
from posewatch.datasets import layouts
from posewatch.errors import InputError, ServingError
from posewatch.export.onnx import export, synthetic_clips
from posewatch.export.precision import Judge, convert
from posewatch.inference import triton_admin
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.openvino import OpenVinoPredictor
from posewatch.inference.openvino_model import FIXED, OpenVinoModel
from posewatch.inference.triton import TritonPredictor
from posewatch.serving.benchmark import load
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer
from posewatch.stack.triton_install import openvino_folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of two small untrained graph networks, each of which looks for who is there."""
    import torch

    from posewatch.recognition.recogniser import Recogniser, save

    torch.manual_seed(0)
    config = TrainConfig(model="stgcn++", width=0.1, clip_frames=8, stream="j,jm")
    made = Recogniser(config, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0)
    path = tmp_path_factory.mktemp("network") / "checkpoint.pt"
    save(path, made, made.state_dict())
    return path


@pytest.mark.skipif(not openvino_folder().is_dir(), reason="not installed: posewatch install openvino")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_answers(server: TritonServer, tiny: Path, clips, precision: str, tolerance: float) -> None:
    name = f"openvino_{precision}"
    write_repository(tiny, server.repository, name=name, accelerator="openvino", precision=precision, max_batch=4)
    triton_admin.load_model(server.grpc, name)
    with TritonPredictor(server.grpc, name) as predictor:
        got = predictor.predict(clips)
    wanted = OnnxPredictor(tiny).predict(clips)
    np.testing.assert_allclose(got.probabilities, wanted.probabilities, atol=tolerance)
    np.testing.assert_allclose(got.embedding, wanted.embedding, atol=tolerance)
    triton_admin.unload_model(server.grpc, name)


@pytest.mark.skipif(not openvino_folder().is_dir(), reason="not installed: posewatch install openvino")
def test_in_this_process(tiny: Path, clips) -> None:
    predictor = OpenVinoPredictor(tiny, openvino_folder())
    wanted = OnnxPredictor(tiny).predict(clips)
    found = load.closed(predictor.predict, clips[:1], 2, 0.05)
    assert found.latencies_ms
    np.testing.assert_allclose(predictor.predict(clips).probabilities, wanted.probabilities, atol=1e-5)
    with pytest.raises(InputError, match="keypoints"):
        predictor.predict(clips[:, :1])


@pytest.mark.skipif(not openvino_folder().is_dir(), reason="not installed: posewatch install openvino")
@pytest.mark.parametrize("skip", [True, False])
def test_fixed_shapes_answer_alike(tmp_path: Path, network: Path, skip: bool) -> None:
    """Clips of one, two and no person, alone and together: those with a graph of their own and those without."""
    path = tmp_path / "model.onnx"
    export(network, path, skip_absent=skip)
    exact = OnnxPredictor(path)
    model = OpenVinoModel(str(path), folder=str(openvino_folder()), max_batch=2)
    assert set(model._fixed) == ({(1, 1), (1, 2), (2, 2), (2, 4)} if skip else {(1, 0), (2, 0)})
    both = synthetic_clips(4, exact.shape)[1:3]
    one, nobody = both.copy(), np.zeros_like(both)
    one[0, 1], one[1, 0] = 0, 0
    asked: set[tuple[int, int]] = set()
    for key, request in model._fixed.items():
        request.infer = lambda feed, own=request.infer, key=key: (asked.add(key), own(feed))
    mixed = np.concatenate([both[:1], one[:1]])
    for clips in (both[:1], one[:1], one[1:], both, one, mixed, nobody[:1], np.concatenate([both, one])):
        wanted = exact.predict(clips)
        probabilities, embedding = model.run(["probabilities", "embedding"], {"keypoints": clips})
        np.testing.assert_allclose(probabilities, wanted.probabilities, atol=1e-4)
        np.testing.assert_allclose(embedding, wanted.embedding, atol=1e-3)
    assert len(asked) == len(model._fixed), "each of the fixed shapes was used"


@pytest.mark.skipif(not openvino_folder().is_dir(), reason="not installed: posewatch install openvino")
def test_signals_still_arrive_after_models_are_gone(network: Path, tmp_path: Path) -> None:
    """With a core for each model, freed in the order of their making, the process would end at its first signal."""
    path = tmp_path / "model.onnx"
    export(network, path)
    script = f"""
import faulthandler, gc, signal
from posewatch.inference.openvino_model import OpenVinoModel
faulthandler.enable()  # sets a signal stack, as test runners do
models = [OpenVinoModel({str(path)!r}, folder={str(openvino_folder())!r}) for _ in range(3)]
while models:
    models.pop(0)
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("heard", flush=True))
signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


@pytest.mark.skipif(not openvino_folder().is_dir(), reason="not installed: posewatch install openvino")
def test_fixed_shapes_are_few(network: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(network, path)
    alone = OpenVinoModel(str(path), folder=str(openvino_folder()))
    assert set(alone._fixed) == {(1, 1), (1, 2)}
    many = OpenVinoModel(str(path), folder=str(openvino_folder()), max_batch=64)
    assert len(many._fixed) == FIXED


@pytest.mark.skipif(not openvino_folder().is_dir(), reason="not installed: posewatch install openvino")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_file_with_weights_in_bf16(tmp_path: Path, tiny: Path, clips, precision: str) -> None:
    exact = OnnxPredictor(tiny).predict(clips).probabilities
    small = tmp_path / "bf16.onnx"
    convert(tiny, small, "bf16", Judge(clips, exact.argmax(1)))
    got = OpenVinoPredictor(small, openvino_folder(), precision).predict(clips).probabilities
    np.testing.assert_allclose(got, exact, atol=2e-2)


def test_where_it_is_absent(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posewatch.stack.triton_install.openvino_folder", lambda: tmp_path / "none")
    write_repository(tiny, tmp_path / "models", name="m", accelerator="openvino")
    with (
        TritonServer.start(tmp_path / "models", log=tmp_path / "log") as server,
        pytest.raises(ServingError, match=r"posewatch install openvino"),
    ):
        triton_admin.load_model(server.grpc, "m")
