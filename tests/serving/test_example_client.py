"""The example client of inference-service/, run as its reader would run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posewatch.inference import triton_admin
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer

SCRIPT = Path(__file__).resolve().parents[2] / "inference-service" / "example_client.py"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_answers(server: TritonServer, tiny: Path, clips, tmp_path: Path, protocol: str) -> None:
    write_repository(tiny, server.repository, name="example")
    triton_admin.load_model(server.grpc, "example")
    np.save(tmp_path / "clips.npy", clips[:3])
    done = _run(f"{protocol}://{getattr(server, protocol)}/example", str(tmp_path / "clips.npy"))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = OnnxPredictor(tiny).predict(clips[:3]).probabilities
    assert [row["abnormal"] for row in rows] == pytest.approx(wanted[:, 1].tolist(), abs=1e-4)


def test_wrong_shape_is_one_line(server: TritonServer, tiny: Path, clips, tmp_path: Path) -> None:
    write_repository(tiny, server.repository, name="example")
    triton_admin.load_model(server.grpc, "example")
    np.save(tmp_path / "clips.npy", clips[:3, :, :4])
    done = _run(f"grpc://{server.grpc}/example", str(tmp_path / "clips.npy"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "takes keypoints of shape (N, 2, 6, 17, 3), not (3, 2, 4, 17, 3)" in done.stderr
