"""The tests of ``on_a_gpu.py``, in a process of their own: torch takes no device more after its first gradients."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_no_tensor_is_left_on_the_cpu() -> None:
    pytest.importorskip("torch")
    file = Path(__file__).with_name("on_a_gpu.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=file.parents[2])
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert "skipped" not in run.stdout
