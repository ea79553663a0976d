"""Keypoints in 16 bits: what is lost, and that every predictor sends them to a model that takes them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_models import tiny_model

from posewatch.errors import InputError
from posewatch.export.quantised import quantise
from posewatch.inference import triton_admin
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.quantised import decode, encode
from posewatch.inference.triton import TritonPredictor
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer


def test_a_thirty_second_of_a_pixel_is_lost_and_nobody_stays_nobody() -> None:
    rng = np.random.default_rng(0)
    clips = rng.uniform(-500, 3500, (4, 2, 6, 17, 3)).astype(np.float32)
    clips[..., 2] = rng.uniform(0, 1, clips.shape[:-1])
    clips[0] = 0
    back = decode(encode(clips))
    assert np.abs(back - clips)[..., :2].max() <= 1 / 32 + 1e-3
    assert np.abs(back - clips)[..., 2].max() < 1e-5
    assert not back[0].any()
    assert decode(encode(np.float32([[-9e3, 9e3, 2.0]]))).tolist() == [[-512.0, pytest.approx(3583.94, abs=0.01), 1.0]]


def test_a_model_that_takes_16_bits_answers_as_of_decoded_clips(
    server: TritonServer, tiny: Path, clips, tmp_path: Path
) -> None:
    quantise(tiny, tmp_path / "model.onnx")
    metadata = {p.key: p.value for p in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert metadata["wire"] == "uint16"
    pixels = (clips * [640, 480, 1]).astype(np.float32)
    wanted = OnnxPredictor(tiny).predict(decode(encode(pixels))).probabilities
    np.testing.assert_allclose(OnnxPredictor(tmp_path / "model.onnx").predict(pixels).probabilities, wanted, atol=1e-5)
    write_repository(tmp_path / "model.onnx", server.repository, name="short", model_warmup="none")
    triton_admin.load_model(server.grpc, "short")
    triton_admin.load_model(server.grpc, "short")  # asks it first whether it answers
    for protocol, url in (("grpc", server.grpc), ("http", server.http)):
        with TritonPredictor(url, "short", protocol) as predictor:
            np.testing.assert_allclose(predictor.predict(pixels).probabilities, wanted, atol=1e-5)
    triton_admin.unload_model(server.grpc, "short")


def test_coordinates_relative_to_the_hips_are_no_pixels(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "model.onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {p.key: p.value for p in model.metadata_props} | {"features": "hips"})
    onnx.save(model, path)
    with pytest.raises(InputError, match="leave serving\\.wire at float32"):
        quantise(path, tmp_path / "short.onnx")
    assert not (tmp_path / "short.onnx").exists()
