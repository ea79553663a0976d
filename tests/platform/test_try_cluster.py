"""make test-cluster, as far as it goes without a cluster: its steps and its table, and the small server for a GPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_model

from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.open import open_predictor
from posewatch.inference.triton_admin import model_ready
from posewatch.serving.repository import write_repository
from posewatch.stack.process import pick_ports, wait_until

from .chart import ROOT

TOOL = """#!/bin/sh
echo "$(basename $0) $*" >> "$CALLS"
case "$*" in
  "get crds"*) echo "$CRDS" ;;
  *kustomize*) echo "kind: Role" ;;
  *"get pods"*component=watcher*) echo pod/posewatch-watcher-hall-0 ;;
  *"get pvc"*) printf Bound ;;
  *"$FAILS"*) echo "no such luck" >&2; exit 1 ;;
esac
"""
PASSED = ["make namespace", "base", "install", "helm test", "upgrade", "readiness", "pipeline"]


def trial(folder: Path, *words: str, fails: str = "nothing at all", crds: str = "") -> tuple[int, list[list[str]], str]:
    """Exit status, the table and the calls of helm and kubectl: both do nothing, and fail at the words of ``fails``."""
    for name in ("helm", "kubectl"):
        (folder / name).write_text(TOOL)
        (folder / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "KUBECONFIG": "/x", "CALLS": str(folder / "calls")}
    env |= {"FAILS": fails, "CRDS": crds}
    env.pop("KF_PIPELINES_ENDPOINT", None)
    command = [sys.executable, str(ROOT / "helm" / "try_cluster.py"), *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    table = done.stdout.rpartition("step  ")[2].splitlines()[1:-1]
    rows = [
        [part.strip() for part in line.replace("not tried", "not-tried").split("  ") if part.strip()] for line in table
    ]
    return done.returncode, rows, (folder / "calls").read_text()


def test_each_step_has_a_row_and_everything_is_taken_away(tmp_path: Path) -> None:
    status, rows, calls = trial(tmp_path, "--example", "one-gpu-box")
    assert (status, [(row[0], row[1]) for row in rows]) == (0, [(name, "passed") for name in PASSED])
    assert "helm upgrade --install posewatch" in calls
    assert "--rollback-on-failure" in calls
    assert calls.splitlines()[-1] == "kubectl delete namespace posewatch-try --wait=false"


def test_what_needs_a_step_that_failed_is_not_tried(tmp_path: Path) -> None:
    status, rows, calls = trial(tmp_path, fails="--wait --timeout")
    assert status == 1
    assert [row[1] for row in rows] == ["passed", "passed", "FAILED", *["not-tried"] * 4]
    assert rows[2][2] == "helm: no such luck"
    assert calls.splitlines()[-1] == "kubectl delete namespace posewatch-try --wait=false"
    status, rows, calls = trial(tmp_path, fails="create namespace")
    assert [row[1] for row in rows] == ["FAILED", *["not-tried"] * 6]
    assert "delete namespace" not in calls.rpartition("create namespace")[2], "it is not ours"


def test_without_a_gpu_a_small_server_takes_tritons_place(tmp_path: Path) -> None:
    crds = "customresourcedefinition.apiextensions.k8s.io/inferenceservices.serving.kserve.io"
    sets = ("--set", "images.tag=abc", "--set", "images.repository=here/pw")
    _, rows, calls = trial(tmp_path, "--fake-triton", *sets, crds=crds)
    assert ["fake runtime", "passed", "here/pw-serving:abc"] in rows
    assert "serving.runtime.enabled=false" in calls
    assert "create configmap fake-triton" in calls


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_small_server_answers_like_the_model(tmp_path: Path, protocol: str) -> None:
    model = tiny_model(tmp_path / "model.onnx")
    write_repository(tmp_path / "model.onnx", tmp_path / "models", name="abnormal", model_warmup="none")
    http, grpc = pick_ports(2, 5311)
    command = [sys.executable, str(ROOT / "helm" / "fake_triton.py"), f"--model-repository={tmp_path / 'models'}"]
    command += [f"--http-port={http}", f"--grpc-port={grpc}", "--metrics-port=1", "--exit-timeout-secs=25"]
    server = subprocess.Popen(command)
    try:
        port = {"http": http, "grpc": grpc}[protocol]

        def there() -> bool:
            try:
                return model_ready(f"127.0.0.1:{port}", "abnormal", protocol)
            except Exception:
                return False

        assert wait_until(there, 60)
        keypoints = np.random.default_rng(0).random((3, 2, 6, 17, 3), np.float32)
        predictor = open_predictor(f"{protocol}://127.0.0.1:{port}/abnormal")
        expected = OnnxPredictor(tmp_path / "model.onnx").predict(keypoints).probabilities
        np.testing.assert_allclose(predictor.predict(keypoints).probabilities, expected, atol=1e-6)
        assert predictor.labels == OnnxPredictor(tmp_path / "model.onnx").labels
        predictor.close()
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    del model
