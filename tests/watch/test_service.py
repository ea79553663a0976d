"""Many cameras in one container: real processes, probes, metrics, a crash, a clean end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from camera import Camera
from prometheus_client.parser import text_string_to_metric_families
from tiny_models import tiny_model

from posewatch.cli.main import main
from posewatch.errors import ConfigError
from posewatch.stack.process import pick_ports, wait_until
from posewatch.watch import metrics, service
from posewatch.watch.service import CameraProcess, read_config
from posewatch.watch.stats import WatchStats


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def _samples(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("camera", "") + sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _restarts(port: int) -> list[float]:
    samples = _samples(_get(port, "/metrics")[1])
    return sorted(samples["posewatch_watch_restarts_total", name] for name in ("door", "gone"))


@pytest.mark.usefixtures("real_networks")
def test_cameras_are_watched_started_again_and_ended(tmp_path: Path) -> None:
    camera = Camera()
    tiny_model(tmp_path / "model.onnx")
    config = tmp_path / "cameras.yaml"
    config.write_text(
        f"model: {tmp_path / 'model.onnx'}\nout: {tmp_path / 'out'}\nprivacy: skeleton\n"
        "options: {on: 0.999, no-video: true}\n"
        "cameras:\n  - {name: door, url: '${DOOR}'}\n  - {name: gone, url: 'rtsp://127.0.0.1:9/x'}\n"
    )
    (port,) = pick_ports(1, 4711)
    command = [sys.executable, "-m", "posewatch.cli", "watch-service", "--config", str(config), "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "DOOR": camera.url}, stderr=subprocess.PIPE, text=True)
    try:
        assert wait_until(lambda: _get(port, "/readyz")[0] == 200, 60)
        assert _get(port, "/healthz") == (200, "ok\n")
        assert _get(port, "/nothing")[0] == 404

        def watched() -> bool:
            return _samples(_get(port, "/metrics")[1]).get(("posewatch_watch_camera_up", "door")) == 1

        assert wait_until(watched, 60)
        samples = _samples(_get(port, "/metrics")[1])
        assert samples["posewatch_watch_camera_up", "gone"] == 0

        def working() -> bool:
            now = _samples(_get(port, "/metrics")[1])
            counts = [now.get((f"posewatch_watch_{what}_total", "door"), 0) for what in ("frames", "windows")]
            return counts[0] > 10 and counts[1] > 0

        assert wait_until(working, 60)
        samples = _samples(_get(port, "/metrics")[1])
        total = samples["posewatch_watch_probability_bucket", "door+Inf"]
        assert total == samples["posewatch_watch_probability_count", "door"] > 0
        children = _children(process.pid)
        assert len(children) == 2
        commands = " ".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in children)
        assert "secret" not in commands  # an address with a password is on no command line
        os.kill(children[0], signal.SIGKILL)
        # not ready for the second that it pauses, unless this process was paused for longer
        assert wait_until(lambda: _get(port, "/readyz")[0] == 503 or _restarts(port) == [0, 1], 20)
        assert wait_until(lambda: _get(port, "/readyz")[0] == 200, 20)
        assert _restarts(port) == [0, 1]
    finally:
        process.terminate()
        log = process.communicate(timeout=60)[1]
        camera.close()
    assert process.returncode == 0
    assert "its process ended with -9" in log
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def _children(pid: int) -> list[int]:
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_camera_without_a_fresh_status_does_not_count_as_watched() -> None:
    status = {
        "at": 100.0, "frames": 5, "windows": 2, "refused": 0, "alarms": 1, "behind_s": 0.2, "persons": 1,
        "raised": True,
        "histogram": [1, 0, 0, 0, 0, 0, 0, 0, 0, 1], "probability_sum": 1.05, "outbox": 3, "webhook_failures": 4,
        "camera": {"read": 5, "dropped": 2, "connects": 1, "connected": True},
    }  # fmt: skip
    fresh = _samples(metrics.text([("a", True, 0, status), ("b", True, 0, None)], 105).decode())
    assert fresh["posewatch_watch_camera_up", "a"] == 1
    assert fresh["posewatch_watch_camera_up", "b"] == 0
    assert fresh["posewatch_watch_frames_dropped_total", "a"] == 2
    assert fresh["posewatch_watch_outbox_messages", "a"] == 3
    assert fresh["posewatch_watch_webhook_failures_total", "a"] == 4
    assert fresh["posewatch_watch_probability_bucket", "a0.1"] == 1
    now = [f"posewatch_watch_{name}" for name in ("behind_seconds", "persons", "alarm")]
    assert all((name, "a") in fresh for name in now)
    for running, at in ((True, 200), (False, 105)):
        old = _samples(metrics.text([("a", running, 0, status)], at).decode())
        assert old["posewatch_watch_camera_up", "a"] == 0
        assert not any((name, "a") in old for name in now), "of then, not of now"
        assert old["posewatch_watch_outbox_messages", "a"] == 3, "these still wait"


def test_versions_that_answer_no_more_are_not_counted_for_ever() -> None:
    stats = WatchStats()
    for number in range(30):
        for version in (f"canary{number}", "stable"):
            stats.of_version(version).count_answer(0.1, 0.5)
    assert set(stats.versions) == {"stable", *(f"canary{number}" for number in range(21, 30))}
    assert stats.versions["stable"].windows == 30


GOOD = "model: m.onnx\ncameras: [{name: a, url: rtsp://x/y}]\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("cameras: [", "is not YAML"),
        ("- a", "must be a mapping"),
        ("cameras: []", "missing configuration key 'model'"),
        ("model: ''\ncameras: []", "model must be an address"),
        ("model: m\ncameras: []", "cameras must be a list of 1 to 1000 values, not empty"),
        (GOOD + "colour: red\n", "unknown configuration key 'colour'"),
        (GOOD + "option: {on: 1}\n", "did you mean 'options'?"),
        ("model: m\ncameras: [{name: a}]", "missing configuration key 'cameras[0].url'"),
        ("model: m\ncameras: [{name: 'A b', url: x}]", "small letters, digits and dashes"),
        ("model: m\ncameras: [{name: a, url: x}, {name: a, url: y}]", "a name of its own"),
        ("model: m\ncameras: [{name: a, url: 'rtsp://${NO_SUCH_THING}/x'}]", "needs the environment variable"),
        (GOOD + "options: [on]\n", "options must be a mapping"),
        ("model: m\ncameras: [{name: a, url: x, frigate: 'a/#'}]", "letters, digits, _ and -"),
        (GOOD + "frigate: 'mqtt://a:${NO_SUCH_THING}@b'\n", "needs the environment variable"),
        (GOOD + "set: {pose: 1}\n", "set must be a list"),
    ],
)
def test_a_wrong_configuration_is_one_line(
    tmp_path: Path, text: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(text)
    assert main(["watch-service", "--config", str(path), "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert "Traceback" not in error
    with pytest.raises(ConfigError, match="cannot read"):
        read_config(tmp_path / "nothing.yaml")


def test_a_good_configuration(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(GOOD + "options: {on: 0.7, min_s: 1}\nset: [pose.source=raw]\n")
    assert "--store" not in CameraProcess(read_config(path).cameras[0], read_config(path)).command()
    recorded = GOOD + "options: {record: true, keep-days: 3}\nstore: s3://posewatch\n"
    (tmp_path / "recorded.yaml").write_text(recorded)
    words = CameraProcess((config := read_config(tmp_path / "recorded.yaml")).cameras[0], config).command()
    assert words[words.index("--store") + 1] == "s3://posewatch"
    assert words[-3:] == ["--record", "--keep-days", "3"]
    config = read_config(path)
    assert (config.model, config.cameras[0].name, config.options) == ("m.onnx", "a", {"on": "0.7", "min-s": "1"})
    assert config.set == ("pose.source=raw",)


def test_cameras_of_frigate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", "hush-hush")
    path = tmp_path / "cameras.yaml"
    path.write_text(
        "model: m.onnx\nfrigate: 'mqtt://ann:${BROKER_PASSWORD}@broker/frigate?after=5'\n"
        f"webhook: frigate+http://frigate:5000\nout: {tmp_path}\n"
        "cameras: [{name: door, url: rtsp://x/y, frigate: front_door}, {name: b, url: rtsp://x/z}]\n"
    )
    config, started = read_config(path), []
    monkeypatch.setattr(service.subprocess, "Popen", lambda words, env: started.append((words, env)))
    for camera in config.cameras:
        CameraProcess(camera, config).keep_running(1.0)
    (words, env), (other_words, other_env) = started
    assert words[words.index("--frigate") + 1] == "env:POSEWATCH_FRIGATE_BROKER"
    assert "hush-hush" not in " ".join(words)
    assert env["POSEWATCH_FRIGATE_BROKER"] == "mqtt://ann:hush-hush@broker/frigate?after=5&camera=front_door"
    assert env["POSEWATCH_ALARM_WEBHOOK"] == "frigate+http://frigate:5000?camera=front_door"
    assert "--frigate" not in other_words
    assert other_env["POSEWATCH_ALARM_WEBHOOK"] == "frigate+http://frigate:5000"
