"""The watcher on files and on a camera, over a real RTSP connection."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from perception.camera import Camera
from serving.conftest import tiny_model
from watch.conftest import Falls, Posture

from posewatch import video
from posewatch.cli import main as cli
from posewatch.config import PoseConfig
from posewatch.errors import ConfigError, InputError, ServingError, VideoError
from posewatch.inference.predictors import load_model, open_predictor
from posewatch.recognition.events.alarms import Hysteresis
from posewatch.records import Detections
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer
from posewatch.watch import sources
from posewatch.watch.picture import Painter, State
from posewatch.watch.scene import Seen
from posewatch.watch.sinks.fanout import Sinks
from posewatch.watch.sinks.lines import Lines
from posewatch.watch.sinks.videos import AlarmVideos, WholeVideo
from posewatch.watch.sources import CameraSource, Counters, FileSource, Moment
from posewatch.watch.watcher import WatchConfig, Watcher

CONFIG = WatchConfig(window_s=2.0, stride_s=0.5, smooth=2, hysteresis=Hysteresis(0.5, 0.4))


def _painter(width: int, height: int) -> Painter:
    return Painter(width, height, "door", "abnormal", 0.5, 0.4)


def _alarms(out: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_fall_is_raised_in_time_and_shown(clip: Callable[..., Path], tmp_path: Path) -> None:
    out, model = io.StringIO(), Posture()
    shown = WholeVideo(tmp_path / "shown.mp4", 10, _painter)
    with Sinks(Lines(tmp_path / "alarms.jsonl", out), shown, None, tmp_path / "w.jsonl", None) as sinks:
        watcher = Watcher(FileSource(clip(), 10, 640), model, Falls(40, 65), PoseConfig(), CONFIG, sinks)
        done = watcher.run(threading.Event())
    raised, ended = _alarms(out)
    assert raised["event"] == "alarm"
    assert 4.0 < raised["raised_s"] <= 6.0  # it lies from second 4 on; half a window, and the mean of two
    assert 3.5 <= raised["start_s"] <= 5.0
    assert (raised["label"], raised["model"]["version"], raised["persons"]) == ("abnormal", "7", [0])
    assert ended["event"] == "alarm_ended"
    assert ended["id"] == raised["id"]
    assert 6.0 <= ended["end_s"] <= 7.5
    assert (done.frames, done.alarms, sum(done.histogram)) == (90, 1, done.windows)
    rows = [json.loads(line) for line in (tmp_path / "w.jsonl").read_text().splitlines()]
    assert [row["end_s"] for row in rows][:3] == [2.0, 2.5, 3.0]
    assert rows[-1]["end_s"] == 9.0
    assert (tmp_path / "alarms.jsonl").read_text() == out.getvalue()
    info = video.probe(tmp_path / "shown.mp4")
    assert (info.frames, info.width, info.codec) == (90, 960, "h264")
    red = [_redness(frame.image) for frame in video.read(tmp_path / "shown.mp4")]
    at = round(raised["raised_s"] * 10)
    assert max(red[: at - 2]) < 0.2 < min(red[at : at + 10])


def _redness(image: np.ndarray) -> float:
    """Share of the top row's pixels that are the alarm's red."""
    row = image[4].astype(int)
    return float(((row[:, 0] > 180) & (row[:, 1] < 100)).mean())


def test_privacy_shows_no_picture(clip: Callable[..., Path]) -> None:
    frame = next(video.read(clip(), 10)).image
    seen, state = Seen(Detections.none(17), ()), State(0.0, 0.0, None, (), "")
    painters = [Painter(160, 120, "", "x", 0.5, 0.4, privacy) for privacy in ("none", "blur", "skeleton")]
    plain, blurred, bare = (painter.paint(frame, seen, state) for painter in painters)
    inner = np.s_[60:600]
    assert bare[inner].max() <= 12
    detail = [float(np.abs(np.diff(p[inner].astype(float), axis=1)).max()) for p in (plain, blurred)]
    assert detail[1] < detail[0] / 2
    with pytest.raises(ConfigError, match="privacy is one of none, blur, skeleton"):
        Painter(160, 120, "", "x", 0.5, 0.4, "half")


def test_a_short_video_is_one_window_and_a_stop_leaves_a_whole_file(clip: Callable[..., Path], tmp_path: Path) -> None:
    out, stop = io.StringIO(), threading.Event()
    shown = WholeVideo(tmp_path / "shown.mp4", 10, _painter)
    with Sinks(Lines(None, out), shown, None, None, None) as sinks:
        source = FileSource(clip(seconds=1.2), 10, 640)
        done = Watcher(source, Posture(), Falls(0), PoseConfig(), CONFIG, sinks).run(stop)
    assert (done.frames, done.windows) == (12, 1)
    assert [a["probability"] for a in _alarms(out)] == [1.0, 1.0]  # raised and ended: it lies all the time

    class Stopping(Falls):
        def estimate(self, images):
            if self.calls == 20:
                stop.set()
            return super().estimate(images)

    shown = WholeVideo(tmp_path / "stopped.mp4", 10, _painter)
    with Sinks(Lines(None, out), shown, None, None, None) as sinks:
        Watcher(FileSource(clip(), 10, 640), Posture(), Stopping(99), PoseConfig(), CONFIG, sinks).run(stop)
    assert video.probe(tmp_path / "stopped.mp4").frames == 21


def test_an_alarm_over_midnight_ends_under_its_own_id() -> None:
    class Night:
        name, live, counters = "door", True, Counters()

        def frames(self, stop: threading.Event) -> Iterator[Moment]:
            evening = datetime(2026, 1, 1, 23, 59, 54, tzinfo=UTC)
            for i in range(120):
                yield Moment(i, i / 10, evening + timedelta(seconds=i / 10), np.zeros((120, 160, 3), np.uint8))

    out = io.StringIO()
    with Sinks(Lines(None, out), None, None, None, None) as sinks:
        Watcher(Night(), Posture(), Falls(30, 80), PoseConfig(), CONFIG, sinks).run(threading.Event())
    raised, ended = _alarms(out)
    assert (raised["time"][:10], ended["time"][:10]) == ("2026-01-01", "2026-01-02")
    assert raised["id"] == ended["id"]


def test_a_camera_is_watched_over_a_break_and_its_alarm_has_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ROOM_S", 100)  # nothing is dropped here, however slow this machine is
    camera = Camera(breaks_after=4.0)
    said: list[str] = []
    source = CameraSource(camera.url, 10, 640, name="door", patience_s=30, say=said.append)
    out, stop = io.StringIO(), threading.Event()

    class Stopping(Falls):
        def estimate(self, images):
            if self.calls == 150:
                stop.set()
            return super().estimate(images)

    videos = AlarmVideos(tmp_path / "alarms", 10, _painter)
    with Sinks(Lines(None, out), videos, None, None, tmp_path / "status.json") as sinks:
        watcher = Watcher(source, Posture(), Stopping(60, 90), PoseConfig(), CONFIG, sinks)
        sinks.source, sinks.progress = source, watcher.progress
        done = watcher.run(stop)
    camera.close()
    assert camera.connections >= 2
    assert any("connecting again" in line and "secret" not in line for line in said)
    assert done.alarms >= 1
    first = _alarms(out)[0]
    assert first["source"] == "door"
    assert first["time"].endswith("+00:00")
    shown = video.probe(tmp_path / "alarms" / f"{first['id']}.mp4")
    assert shown.frames >= 20
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["frames"] == done.frames
    assert status["camera"]["connects"] >= 2
    assert sum(status["histogram"]) == status["windows"] > 0


def test_a_camera_does_not_wait_and_what_is_dropped_is_counted() -> None:
    camera = Camera()
    source, stop = CameraSource(camera.url, 10, 640), threading.Event()
    frames = source.frames(stop)
    indices = []
    for moment in frames:
        indices.append(moment.index)
        time.sleep(0.02)  # the camera sends as fast as it can: hundreds of frames per second
        if (len(indices) >= 40 and source.counters.dropped) or len(indices) == 1000:
            break
    stop.set()
    camera.close()
    assert source.counters.dropped > 0
    assert indices == sorted(set(indices))
    assert indices[-1] > len(indices)  # newer frames were given, not all
    assert source.counters.read == len(indices)


def test_a_camera_that_is_away_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PAUSES_S", (0.05,))
    camera = Camera()
    camera.close()
    source = CameraSource(camera.url, 10, 640, patience_s=0.3, say=lambda line: None)
    with pytest.raises(VideoError, match=r"nothing from rtsp://127.0.0.1:\d+/live") as caught:
        list(source.frames(threading.Event()))
    assert "secret" not in str(caught.value)


def test_a_model_that_goes_away_ends_a_file_and_not_a_camera(clip: Callable[..., Path]) -> None:
    class Away(Posture):
        def predict(self, keypoints):
            raise ServingError("Triton at x: no answer")

    out = io.StringIO()
    source = FileSource(clip(seconds=4), 10, 640)
    with Sinks(Lines(None, out), None, None, None, None) as sinks:
        with pytest.raises(ServingError, match="no answer"):
            Watcher(source, Away(), Falls(5), PoseConfig(), CONFIG, sinks).run(threading.Event())
        said: list[str] = []
        source = FileSource(clip(seconds=4), 10, 640)
        source.live = True
        done = Watcher(source, Away(), Falls(5), PoseConfig(), CONFIG, sinks, said.append).run(threading.Event())
    assert done.refused > 2
    assert done.windows == 0
    assert said == [f"{source.name}: Triton at x: no answer; watching on"]


def test_a_model_that_does_not_fit(clip: Callable[..., Path]) -> None:
    source, model = FileSource(clip(seconds=1), 10, 640), Posture()

    def made(**metadata: str) -> Watcher:
        model.metadata = metadata
        return Watcher(source, model, Falls(5), PoseConfig(), CONFIG, Sinks(Lines(None), None, None, None, None))

    with pytest.raises(InputError, match="say which class raises alarms: --label, one of normal, abnormal"):
        made()
    with pytest.raises(InputError, match="the model takes ntu25 skeletons, the estimator fixed gives coco17"):
        made(positive="abnormal", layout="ntu25")
    with pytest.raises(ConfigError, match="0 < stride <= window"):
        WatchConfig(window_s=1, stride_s=2)


def test_a_served_model_is_asked(clip: Callable[..., Path], tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model.onnx")
    graph = onnx.load(model)
    for weights in graph.graph.initializer:
        if weights.name == "weight":  # made for coordinates below 1: on pixels it would be sure of everything
            weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) / 100, "weight"))
    onnx.save(graph, model)
    write_repository(model, tmp_path / "models", name="tiny", queue_delay_us=0)
    rows = {}
    with TritonServer.start(tmp_path / "models", log=tmp_path / "log") as server:
        load_model(server.grpc, "tiny")
        for where in (str(model), f"grpc://{server.grpc}/tiny", f"http://{server.http}/tiny"):
            told = tmp_path / "windows.jsonl"
            with open_predictor(where) as predictor, Sinks(Lines(None, io.StringIO()), None, None, told, None) as sinks:
                source = FileSource(clip(), 10, 640)
                Watcher(source, predictor, Falls(40), PoseConfig(), CONFIG, sinks).run(threading.Event())
            rows[where] = [json.loads(line) for line in told.read_text().splitlines()]
    first, *others = rows.values()
    assert len(first) == 15
    assert len({row["p"] for row in first}) > 3
    for other in others:
        assert [row["p"] for row in other] == pytest.approx([row["p"] for row in first], abs=1e-5)


@pytest.mark.usefixtures("real_networks")
def test_the_command(clip: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model(tmp_path / "model.onnx")
    clip("a.mp4", 4.0)
    out = tmp_path / "out"
    told = ["watch", str(tmp_path / "a.mp4"), "--model", str(model), "--out", str(out), "--on", "0.99", "--no-video"]
    assert cli.main(told) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "a.mp4: 40 frames, 3 windows, 0 alarms" in said.err
    assert len((out / "a.windows.jsonl").read_text().splitlines()) == 3
    for wrong, line in (
        (["watch", str(tmp_path / "no.mp4"), "--model", str(model), "--out", str(out)], "no such file or folder"),
        (["watch", "env:NOT_THERE", "--model", str(model), "--out", str(out)], "NOT_THERE is empty"),
        (["watch", "rtsp://a/b", "rtsp://a/c", "--model", str(model), "--out", str(out)], "one camera at a time"),
        ([*told, "--webhook", "mailto:x"], "a webhook is an address"),
        ([*told, "--label", "fire"], "'fire' is none of the model's classes: normal, abnormal"),
        ([*told, "--off", "0.995"], "thresholds must hold"),
    ):
        assert cli.main(wrong) == 2
        assert line in capsys.readouterr().err
