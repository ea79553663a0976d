"""Secrets planted in every place: nothing that is written, shown, logged or in a process list holds one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import ROOT
from tiny_models import tiny_model

from posewatch.cli import main as cli
from posewatch.redact import redact, remember_webhook

PLANTED = {
    "camera": "Cam#ra/9?x",
    "user": "me%40Vz81",
    "path": "tok3nPath7Qz9",
    "query": "Qu3ryS1gn8",
    "s3": "S3cretKey0Xy+/z",
    "database": "Dat4baseWord",
    "webhook": "T0Hook88Xyz1",
    "webhook secret": "Hmac5ecretQ7",
    "proxy": "Pr0xySecretW2",
    "mlflow": "Mlfl0wWord6",
    "kfp": "Kfp7okenAbc1",
}
CAMERA = (
    f"rtsp://{PLANTED['user']}:{PLANTED['camera']}@127.0.0.1:9/live/{PLANTED['path']}"
    f"?token={PLANTED['query']}&X-Amz-Signature={PLANTED['query']}"
)
DATABASE = f"postgresql://lab:{PLANTED['database']}@127.0.0.1:9/labels?password={PLANTED['database']}"
WEBHOOK = f"http://127.0.0.1:9/services/{PLANTED['webhook']}?key={PLANTED['query']}"
ENVIRONMENT = {
    "POSEWATCH_S3_ENDPOINT": "http://127.0.0.1:9",
    "POSEWATCH_S3_ACCESS_KEY": "id",
    "POSEWATCH_S3_SECRET_KEY": PLANTED["s3"],
    "POSEWATCH_LABELS_URL": DATABASE,
    "POSEWATCH_WEBHOOK": WEBHOOK,
    "POSEWATCH_WEBHOOK_SECRET": PLANTED["webhook secret"],
    "POSEWATCH_PROXY_SECRET": PLANTED["proxy"],
    "POSEWATCH_KFP_TOKEN": PLANTED["kfp"],
    "MLFLOW_TRACKING_URI": f"http://ml:{PLANTED['mlflow']}@127.0.0.1:9",
    "CAMERA": CAMERA,
}


def shown(text: str) -> list[str]:
    """The planted secrets in a text, as written or as other programs write them; and the longer half of each."""
    from urllib.parse import quote, unquote

    found = []
    for name, secret in PLANTED.items():
        forms = {
            secret,
            unquote(secret),
            quote(secret, safe=""),
            quote(secret),
            secret.replace("#", "-").replace("/", "-"),
        }
        if any(form in text for form in forms | {form.lower() for form in forms}):
            found.append(name)
    return found


def everything(folder: Path) -> str:
    """Names and contents of all files below a folder."""
    parts = []
    for path in folder.rglob("*"):
        parts.append(str(path.relative_to(folder)))
        if path.is_file():
            parts.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(parts)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment full of secrets, and a model."""
    import posewatch.store.s3 as s3

    monkeypatch.setattr(s3.S3Store.__init__, "__defaults__", ("", 2))
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POSEWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    tiny_model(tmp_path / "m.onnx")
    return tmp_path


LINES = [
    "ingest CAMERA",
    "ingest CAMERA --duration -1 --store store",
    "ingest CAMERA --store s3://bucket --duration 2",
    "ingest ftp://u:Cam#ra/9?x@127.0.0.1/x --store store",
    "ingest CAMERA --no-such-option",
    "ingest CAMERA CAMERA --store store",
    "mask CAMERA --store store",
    "lineage DATABASE --store store",
    "watch CAMERA --model m.onnx --out out --timeout-s 0.2",
    "watch env:CAMERA --model m.onnx --out out --timeout-s 0.2 --webhook WEBHOOK --no-video",
    "watch CAMERA a.mp4 --model m.onnx --out out",
    "watch CAMERA --model grpc://u:Mlfl0wWord6@127.0.0.1:9/m --out out --timeout-s 0.2",
    "watch no.mp4 --model m.onnx --out out --webhook mailto:T0Hook88Xyz1",
    "predict http://u:Mlfl0wWord6@127.0.0.1:9/m/x no.mp4",
    "labels set c-0 normal",
    "labels set c-0 normal --labels-url DATABASE",
    "labels set c-0 normal --labels-url postgresql://u:Dat4baseWord@[::/x",
    "labels set c-0 normal --labels-url mysql://u:Dat4baseWord@h/x",
    "labels audit --out DATABASE.csv",
    "mask sets/x --store s3://bucket",
    "history --store http://u:S3cretKey0Xy@h/x",
    "weights mirror --store ftp://u:Dat4baseWord@h",
    "train --annotations CAMERA --out out",
    "train --annotations x.pkl --out out --config CAMERA",
    "smoke-test http://u:Mlfl0wWord6@127.0.0.1:9/m a b c --store store",
]
WORDS = {"CAMERA": CAMERA, "DATABASE": DATABASE, "WEBHOOK": WEBHOOK}


@pytest.mark.parametrize("verbose", [[], ["--verbose"]], ids=["", "verbose"])
def test_no_command_shows_or_writes_a_secret(
    verbose: list[str], planted: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import posewatch.labels.db.schema  # noqa: F401  (its import is not what is measured)
    from posewatch.stages import capture as stage
    from posewatch.watch import sources

    monkeypatch.setattr(sources, "BACKOFF_S", (0.05,))
    monkeypatch.setattr(stage.capture, "__kwdefaults__", {**stage.capture.__kwdefaults__, "timeout_s": 0.1})
    caplog.set_level("DEBUG")
    wrong = []
    for line in LINES:
        words = [WORDS.get(word, word) for word in line.split(" ")]
        caplog.clear()
        code = cli.main([*words, *verbose])
        out, err = capfd.readouterr()
        if leaks := shown(out + err + caplog.text):
            wrong.append(f"{line}: {leaks} in {out} {err} {caplog.text}"[:1500])
        assert code in range(1, 9), line
        assert verbose or "Traceback" not in err, line
    assert not wrong, "\n".join(wrong)
    assert shown(everything(planted)) == []


def test_the_watchers_of_the_service_show_no_secret_in_the_process_list_or_the_metrics(planted: Path) -> None:
    config = {
        "model": str(planted / "m.onnx"), "out": str(planted / "watched"), "webhook": WEBHOOK,
        "cameras": [
            {"name": "hall", "url": "${CAMERA}", "options": {"timeout-s": "30"}},
            {"name": "door", "url": CAMERA, "options": {"webhook": WEBHOOK, "timeout-s": "30"}},
        ],
    }  # fmt: skip
    (planted / "cameras.json").write_text(json.dumps(config))
    from posewatch.watch.service import Service, read_config

    service = Service(read_config(planted / "cameras.json"))
    for camera in service.cameras:
        assert shown(" ".join(camera.command())) == []
        assert "env:POSEWATCH_ALARM_WEBHOOK" in camera.command()
    command = service.cameras[0].command()
    log = (planted / "log.txt").open("wb")
    env = {
        **os.environ,
        "POSEWATCH_CAMERA_URL": CAMERA,
        "POSEWATCH_ALARM_WEBHOOK": WEBHOOK,
        "PYTHONPATH": str(ROOT / "src"),
    }
    process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=planted)
    try:
        end = time.monotonic() + 40
        while b"connecting again" not in (planted / "log.txt").read_bytes() and time.monotonic() < end:
            assert process.poll() is None, (planted / "log.txt").read_text()
            time.sleep(0.1)
        listed = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
    finally:
        process.terminate()
        process.wait(20)
        log.close()
    (planted / "cameras.json").unlink()
    assert "connecting again" in (planted / "log.txt").read_text()
    assert shown(listed) == []
    assert shown(everything(planted)) == []
    assert shown(service.metrics().decode()) == []


def test_a_recording_has_no_secret_in_names_journal_and_lineage(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from camera import Camera

    from posewatch.stages.capture import capture
    from posewatch.store import open_store

    camera = Camera()
    try:
        host = camera.url.partition("@")[2].partition("/")[0]
        for user in (f"{PLANTED['user']}:{PLANTED['camera']}@", ""):
            url = f"rtsp://{user}{host}/live/{PLANTED['path']}?token={PLANTED['query']}"
            capture(open_store("store"), url, duration_s=1, segment_s=1)
    finally:
        camera.close()
    text = everything(planted / "store")
    assert "captures/127-0-0-1-live-" in text
    assert shown(text) == []


def test_a_step_of_a_pipeline_shows_no_secret(planted: Path) -> None:
    script = (
        "import sys; sys.argv[1:] = [sys.argv[1]]\n"
        "from posewatch.boundary import errors_in_one_line\n"
        "errors_in_one_line()\n"
        "import logging; logging.warning('to %s', sys.argv[1])\n"
        "raise ValueError('bad port in ' + sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, CAMERA], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "unexpected ValueError: bad port in rtsp://***@127.0.0.1:9/live/***" in done.stderr
    assert shown(done.stdout + done.stderr) == []
    assert "Traceback" not in done.stderr


def test_the_tracker_and_the_notification_show_no_secret(
    planted: Path, capfd: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from posewatch import boundary
    from posewatch.stages.notify import notify

    boundary.begin()
    notify(WEBHOOK, "prepare", "FAILED", "r", f"no answer from {CAMERA}", wait_s=0.01)
    pytest.importorskip("mlflow")
    from posewatch.recognition.training.mlflow import open_tracker

    tracker = open_tracker(planted)
    tracker._warn(ConnectionError(f"HTTPConnectionPool: {os.environ['MLFLOW_TRACKING_URI']}/api"))  # type: ignore[attr-defined]
    out, err = capfd.readouterr()
    assert "MLflow at http://***@127.0.0.1:9" in err
    assert shown(out + err + caplog.text) == []


def test_a_host_is_no_secret() -> None:
    remember_webhook("http://127.0.0.1:9/hooks/T0123456789")
    assert redact("no answer from http://127.0.0.1:9: refused") == "no answer from http://127.0.0.1:9: refused"
    assert "T0123456789" not in redact("http://127.0.0.1:9/hooks/T0123456789 answers 500")
