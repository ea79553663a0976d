"""Installing Triton: complete or absent, and a clear error where it cannot run."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import heeds_ctrl_c

from posewatch.errors import StackError
from posewatch.stack import triton_install
from posewatch.stack.process import wait_until

_INSTALL = "from posewatch.stack.triton_install import ensure_triton; ensure_triton()"


def test_installed_parts() -> None:
    install = triton_install.ensure_triton()
    assert os.access(install.binary, os.X_OK)
    files = [p for p in install.backends.rglob("*") if p.is_file() and "__pycache__" not in p.parts]  # of a server
    names = {str(p.relative_to(install.backends)) for p in files}
    assert names == {
        "onnxruntime/model.py",
        "onnxruntime/openvino_model.py",
        "python/libtriton_python.so",
        "python/triton_python_backend_stub",
        "python/triton_python_backend_utils.py",
    }
    assert not any(p.is_symlink() for p in install.backends.rglob("*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_install_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    env = {**os.environ, "POSEWATCH_CACHE": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", _INSTALL], env=env, stderr=subprocess.PIPE, preexec_fn=heeds_ctrl_c
    ) as running:
        assert b"installing Triton" in running.stderr.readline()
        assert wait_until(lambda: bool(list(tmp_path.glob(".triton-*.part/bin/python"))), 20)
        running.send_signal(number)
        assert running.wait(30) != 0
    assert [p.name for p in tmp_path.iterdir()] == ["triton.lock"]


def test_no_registry(tmp_path: Path) -> None:
    registry = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": ""}
    env = {**os.environ, **registry, "POSEWATCH_CACHE": str(tmp_path), "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
    done = subprocess.run([sys.executable, "-c", _INSTALL], env=env, capture_output=True, text=True, check=False)
    assert "StackError: cannot install Triton: ERROR: No matching distribution" in done.stderr.splitlines()[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["triton.lock"]


@pytest.mark.parametrize(
    ("patch", "value", "message"),
    [
        ("os.confstr", lambda _: "glibc 2.31", "needs glibc 2.35 or newer, this system has glibc 2.31"),
        ("os.confstr", lambda _: None, "needs glibc 2.35"),
        ("platform.machine", lambda: "aarch64", "runs on Linux x86_64, not Linux aarch64"),
    ],
)
def test_a_system_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: str, value: object, message: str
) -> None:
    monkeypatch.setenv("POSEWATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(patch, value)
    with pytest.raises(StackError, match=message):
        triton_install.ensure_triton()
    assert not (tmp_path / "cache").exists()


def test_a_python_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSEWATCH_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(StackError, match=f"needs Python 3.11, this is {platform.python_version()}"):
        triton_install.ensure_triton()
