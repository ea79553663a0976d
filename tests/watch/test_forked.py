"""Cameras' processes that are forked from one: they share its memory, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from camera import Camera
from pictures import picture
from tiny_models import tiny_model

from posewatch.config import PoseConfig
from posewatch.perception.networks import build_estimator, keep_estimator
from posewatch.stack.process import wait_until
from posewatch.watch.forked import Forks


def _memory(pid: int) -> dict[str, int]:
    """MiB by kind."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) // 1024 for line in lines}


@pytest.mark.usefixtures("real_networks")
def test_forked_processes_share_memory_and_fail_alone(tmp_path: Path) -> None:
    camera, forks = Camera(), Forks("default", ())
    tiny_model(tmp_path / "model.onnx")
    words = ["watch", "env:CAMERA", "--model", str(tmp_path / "model.onnx"), "--no-video"]

    def start(name: str, url: str, *more: str) -> subprocess.Popen[bytes]:
        out = tmp_path / name
        given = [*words, "--out", str(out), "--status", str(out / "status.json"), *more]
        return forks.start(given, {"CAMERA": url}, name)  # type: ignore[return-value]

    door = start("door", camera.url)
    try:
        gone = start("gone", "rtsp://127.0.0.1:9/x", "--timeout-s", "0.1")
        assert gone.wait(60) == 2, "the code of a video that cannot be read"
        assert door.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            door.wait(0.01)
        assert wait_until((tmp_path / "door" / "status.json").exists, 60)
        pid = door._process.pid  # type: ignore[attr-defined]
        assert Path(f"/proc/{pid}/comm").read_text() == "watch door\n"
        for shown in ("cmdline", "environ"):
            assert "secret" not in Path(f"/proc/{pid}/{shown}").read_text()
        assert _memory(pid)["Shared_Dirty"] > 50, "programs and network are the fork server's"
        server = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(server, signal.SIGKILL)
        assert door.wait(30) is not None
        assert wait_until(lambda: not Path(f"/proc/{pid}").exists(), 30), "nobody would know of it any more"
    finally:
        door.kill()
        camera.close()


@pytest.mark.usefixtures("real_networks")
def test_a_network_that_is_kept_is_taken_once_and_sees_the_same() -> None:
    config, image = PoseConfig(), picture(0.0, 160, 120)
    keep_estimator(config, 64)
    kept, other = build_estimator(config), build_estimator(config)
    assert kept is not other
    (a,), (b,) = kept.estimate([image]), other.estimate([image])
    assert np.array_equal(a.boxes, b.boxes)
