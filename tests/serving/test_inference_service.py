"""The files of inference-service/, used as their readers would use them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import numpy as np
import pytest
import yaml

from posewatch.cli import main as cli
from posewatch.inference import triton_admin
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer
from posewatch.watch.service import ServiceConfig, read_config

FOLDER = Path(__file__).resolve().parents[2] / "inference-service"
SCRIPT = FOLDER / "example_client.py"


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


def test_the_cameras_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOOR_USER", "DOOR_PASSWORD", "MQTT_PASSWORD"):
        monkeypatch.setenv(name, "x")
    path = FOLDER / "cameras.example.yaml"
    config = read_config(path)
    assert [camera.name for camera in config.cameras] == ["door", "yard"]
    assert config.options == {"on": "0.7", "merge-s": "3"}
    shown = set(yaml.safe_load(path.read_text()))
    assert shown == {field.name for field in dataclasses.fields(ServiceConfig)}, "the example shows every key"
    assert config.cameras[1].frigate == "yard"


def test_the_load_test_is_a_valid_and_restricted_job() -> None:
    job = yaml.safe_load((FOLDER / "load-test-job.yaml").read_text())
    kubernetes_validate.validate(job, "1.37", strict=True)
    pod = job["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_load_test_runs(server: TritonServer, tiny: Path, tmp_path: Path, capsys) -> None:
    """The job's own command, on a real server and for a shorter time."""
    write_repository(tiny, server.repository, name="loaded")
    triton_admin.load_model(server.grpc, "loaded")
    job = yaml.safe_load((FOLDER / "load-test-job.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    options = dict(word.split("=", 1) for word in container["args"])
    options |= {"--endpoint": f"http://{server.http}/loaded", "--minutes": "0.03", "--out": str(tmp_path / "out")}
    command = [*container["command"], *(f"{key}={value}" for key, value in options.items()), "--every=1"]
    assert cli.main(command[1:]) == 0
    assert "0 errors" in capsys.readouterr().out
    stretches = json.loads((tmp_path / "out/soak.json").read_text())["stretches"]
    assert max(stretch["throughput_ips"] for stretch in stretches) > 0  # a busy machine stands still for a second
    triton_admin.unload_model(server.grpc, "loaded")
