"""The accelerator ``openvino`` of the embedded server, where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posewatch.errors import InputError, ServingError
from posewatch.export.precision import Judge, convert
from posewatch.inference import triton_admin
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.openvino import OpenVinoPredictor
from posewatch.inference.triton import TritonPredictor
from posewatch.serving.benchmark import load
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer
from posewatch.stack.triton_install import openvino_folder


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
