"""The watcher on files and on a camera, over a real RTSP connection."""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from camera import Camera
from PIL import ImageFont
from tiny_models import tiny_model
from watch.conftest import Falls, Posture

from posewatch import video
from posewatch.cli import main as cli
from posewatch.config import PoseConfig
from posewatch.errors import ConfigError, InputError, ServingError, VideoError
from posewatch.events.alarms import Hysteresis
from posewatch.inference.open import open_predictor
from posewatch.inference.triton_admin import load_model
from posewatch.records import Detections, Prediction
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer
from posewatch.watch import annotator, sources
from posewatch.watch.annotator import AlarmState, Annotator
from posewatch.watch.config import WatchConfig
from posewatch.watch.sinks import status_file
from posewatch.watch.sinks.sink import SinkContext
from posewatch.watch.sinks.table import open_sinks
from posewatch.watch.sources import CameraSource, Counters, FileSource, Frame, Silence
from posewatch.watch.stats import WatchStats
from posewatch.watch.tracked_people import Observation
from posewatch.watch.watcher import Watcher

CONFIG = WatchConfig(window_s=2.0, stride_s=0.5, smooth=2, hysteresis=Hysteresis(0.5, 0.4))


def _watch(
    source: Any, model: Posture, estimator: Falls, out: Path, stop: threading.Event | None = None, **options: Any
) -> tuple[WatchStats, list[dict[str, Any]]]:
    """Watch with all sinks of the table; returns the stats and the alarm messages of the stream."""
    out.mkdir(exist_ok=True)
    watcher, stream = Watcher(source, model, estimator, PoseConfig(), CONFIG), io.StringIO()
    context = SinkContext(source, watcher.stats, watcher.label, CONFIG, out, stream=stream, **options)
    with open_sinks(context) as sinks:
        stats = watcher.run(sinks, stop or threading.Event())
    return stats, [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_fall_is_raised_in_time_and_shown(clip: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    stats, (raised, ended) = _watch(FileSource(clip(), 10, 640), Posture(), Falls(40, 65), out)
    assert raised["event"] == "alarm"
    assert 4.0 < raised["raised_s"] <= 6.0  # it lies from second 4 on; half a window, and the mean of two
    assert 3.5 <= raised["start_s"] <= 5.0
    assert (raised["label"], raised["model"]["version"], raised["persons"]) == ("abnormal", "7", [0])
    assert ended["event"] == "alarm_ended"
    assert ended["id"] == raised["id"]
    assert 6.0 <= ended["end_s"] <= 7.5
    assert (stats.frames, stats.alarms, sum(stats.histogram)) == (90, 1, stats.windows)
    rows = [json.loads(line) for line in (out / "door.windows.jsonl").read_text().splitlines()]
    assert [row["end_s"] for row in rows][:3] == [2.0, 2.5, 3.0]
    assert rows[-1]["end_s"] == 9.0
    written = (out / "alarms.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == [raised, ended]
    info = video.probe(out / "door.mp4")
    assert (info.frames, info.width, info.codec) == (90, 960, "h264")
    red = [_redness(frame.image) for frame in video.read(out / "door.mp4")]
    at = round(raised["raised_s"] * 10)
    assert max(red[: at - 2]) < 0.2 < min(red[at : at + 10])


def _redness(image: np.ndarray) -> float:
    """Share of the top row's pixels that are the alarm's red."""
    row = image[4].astype(int)
    return float(((row[:, 0] > 180) & (row[:, 1] < 100)).mean())


def test_privacy_shows_no_picture(clip: Callable[..., Path]) -> None:
    frame = next(video.read(clip(), 10)).image
    nobody, state = Observation(Detections.none(17), ()), AlarmState(0.0, 0.0, None, (), "")
    annotators = [Annotator(160, 120, "", "x", 0.5, 0.4, privacy) for privacy in ("none", "blur", "skeleton")]
    plain, blurred, bare = (annotator.annotate(frame, nobody, state) for annotator in annotators)
    inner = np.s_[60:600]
    assert bare[inner].max() <= 12
    detail = [float(np.abs(np.diff(p[inner].astype(float), axis=1)).max()) for p in (plain, blurred)]
    assert detail[1] < detail[0] / 2
    with pytest.raises(ConfigError, match="privacy is one of none, blur, skeleton"):
        Annotator(160, 120, "", "x", 0.5, 0.4, "half")


def test_a_name_of_several_lines_is_shown_in_one() -> None:
    image, state = np.full((120, 160, 3), 90, np.uint8), AlarmState(1.0, 0.9, 0.5, (1,), "00:01.0")
    shown = [
        Annotator(160, 120, name, "x", 0.5, 0.4).annotate(image, Observation(Detections.none(17), ()), state)
        for name in ("hall a.mp4", "hall\na.mp4")
    ]
    assert (shown[0] == shown[1]).all()


def test_korean_names_are_drawn_in_a_font_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own font draws the same box for each of their letters."""
    image, state = np.full((120, 160, 3), 90, np.uint8), AlarmState(1.0, 0.9, 0.5, (1,), "00:01.0")
    asked: list[tuple[str, int]] = []
    own = ImageFont.truetype

    def truetype(name: Any, size: int, **how: Any) -> Any:
        if name not in annotator.FONTS:
            return own(name, size, **how)
        asked.append((name, size))
        if name != annotator.FONTS[1]:
            raise OSError("cannot open resource")
        return ImageFont.load_default(size + 5)  # stands for a font that has them

    def shown(title: str, label: str) -> bytes:
        annotator._font.cache_clear()
        made = Annotator(160, 120, title, label, 0.5, 0.4)
        return made.annotate(image, Observation(Detections.none(17), ()), state).tobytes()

    names = [("hall", "fall"), ("복도", "fall"), ("hall", "낙상")]
    monkeypatch.setattr(annotator, "FONTS", annotator.FONTS[:2])
    before = [shown(*name) for name in names]
    monkeypatch.setattr(ImageFont, "truetype", truetype)
    assert [shown(*name) == old for name, old in zip(names, before, strict=True)] == [True, False, False]
    assert set(asked) == {(name, size) for name in annotator.FONTS for size in (17, 30, 15)}
    annotator._font.cache_clear()


def test_a_short_video_is_one_window_and_a_stop_leaves_a_whole_file(clip: Callable[..., Path], tmp_path: Path) -> None:
    stats, alarms = _watch(FileSource(clip(seconds=1.2), 10, 640), Posture(), Falls(0), tmp_path / "short")
    assert (stats.frames, stats.windows) == (12, 1)
    assert [a["probability"] for a in alarms] == [1.0, 1.0]  # raised and ended: it lies all the time
    stop = threading.Event()
    _watch(FileSource(clip(), 10, 640), Posture(), Stopping(stop, 20, 99), tmp_path / "stopped", stop)
    assert video.probe(tmp_path / "stopped" / "door.mp4").frames == 21


class Stopping(Falls):
    """Sets ``stop`` at frame ``last``."""

    def __init__(self, stop: threading.Event, last: int, at: int, until: int = 10**9) -> None:
        super().__init__(at, until)
        self._stop, self._last = stop, last

    def estimate(self, images: Any) -> Any:
        if self.calls == self._last:
            self._stop.set()
        return super().estimate(images)


def test_an_alarm_over_midnight_ends_under_its_own_id(tmp_path: Path) -> None:
    class Night:
        name, live, counters = "door", True, Counters()

        def frames(self, stop: threading.Event) -> Iterator[Frame]:
            evening = datetime(2026, 1, 1, 23, 59, 54, tzinfo=UTC)
            for i in range(120):
                yield Frame(i, i / 10, evening + timedelta(seconds=i / 10), np.zeros((120, 160, 3), np.uint8))

    _, (raised, ended) = _watch(Night(), Posture(), Falls(30, 80), tmp_path, video=False)
    assert (raised["time"][:10], ended["time"][:10]) == ("2026-01-01", "2026-01-02")
    assert raised["id"] == ended["id"]


def test_an_alarm_says_how_strange_its_windows_are(tmp_path: Path) -> None:
    """A model that does not tell leaves no mark."""

    class Novel(Posture):
        def predict(self, keypoints: np.ndarray) -> Prediction:
            told = super().predict(keypoints)
            return replace(told, novelty=0.4 + told.probabilities[:, 1])

    class Clip:
        name, live, counters = "door", False, Counters()

        def frames(self, stop: threading.Event) -> Iterator[Frame]:
            for i in range(120):
                yield Frame(i, i / 10, None, np.zeros((120, 160, 3), np.uint8))

    stats, (raised, ended) = _watch(Clip(), Novel(), Falls(30, 80), tmp_path, video=False)
    assert 0.4 < raised["novelty"] <= ended["novelty"] == 1.4
    rows = [json.loads(line) for line in (tmp_path / "door.windows.jsonl").read_text().splitlines()]
    assert [row["novelty"] for row in rows] == [round(0.4 + row["p"], 4) for row in rows]
    assert (stats.compared, stats.strange) == (len(rows), sum(row["novelty"] > 1 for row in rows))
    stats, messages = _watch(Clip(), Posture(), Falls(30, 80), tmp_path / "plain", video=False)
    assert not any("novelty" in message for message in messages)
    assert stats.compared == 0


def test_a_gap_ends_alarms_and_no_window_reaches_over_it(tmp_path: Path) -> None:
    class Paused:
        name, live, counters = "door", False, Counters()

        def frames(self, stop: threading.Event) -> Iterator[Frame]:
            for i in (*range(60), *range(36000, 36060)):
                yield Frame(i, i / 10, None, np.zeros((120, 160, 3), np.uint8))

    _, alarms = _watch(Paused(), Posture(), Falls(30, 90), tmp_path, video=False)
    assert [a["event"] for a in alarms] == ["alarm", "alarm_ended"] * 2
    assert alarms[1]["end_s"] <= 6.0
    assert 3600.0 <= alarms[2]["start_s"] <= 3603.0
    rows = [json.loads(line) for line in (tmp_path / "door.windows.jsonl").read_text().splitlines()]
    assert all(row["end_s"] <= 6.0 or row["start_s"] >= 3600.0 for row in rows)
    assert next(row["end_s"] for row in rows if row["end_s"] > 6) == 3602.0


def test_a_camera_is_watched_over_a_break_and_its_alarm_has_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sources, "BUFFER_S", 100)  # nothing is dropped here, however slow this machine is
    camera = Camera(breaks_after=4.0)
    source, stop = CameraSource(camera.url, 10, 640, name="door", timeout_s=30), threading.Event()
    status = tmp_path / "status.json"
    stats, alarms = _watch(source, Posture(), Stopping(stop, 150, 60, 90), tmp_path, stop, status=status)
    camera.close()
    assert camera.connections >= 2
    assert any("connecting again" in line and "secret" not in line for line in caplog.messages)
    assert stats.alarms >= 1
    first = alarms[0]
    assert first["source"] == "door"
    assert first["time"].endswith("+00:00")
    shown = video.probe(tmp_path / "alarms" / f"{first['id']}.mp4")
    assert shown.frames >= 20
    figures = json.loads(status.read_text())
    assert figures["frames"] == stats.frames
    assert figures["camera"]["connects"] >= 2
    assert sum(figures["histogram"]) == figures["windows"] > 0


def test_no_window_reaches_over_a_change_of_the_pictures_shape(tmp_path: Path) -> None:
    """A camera is set from 16:9 to 4:3 while it runs: who stands still would be seen to drop by a quarter."""

    class Changed:
        name, live, counters = "door", False, Counters()

        def frames(self, stop: threading.Event) -> Iterator[Frame]:
            for i in range(120):
                yield Frame(i, i / 10, None, np.zeros((90 if i < 60 else 120, 160, 3), np.uint8))

    _, alarms = _watch(Changed(), Posture(), Falls(30), tmp_path, video=False)
    assert [a["event"] for a in alarms] == ["alarm", "alarm_ended"] * 2
    ends = [json.loads(line)["end_s"] for line in (tmp_path / "door.windows.jsonl").read_text().splitlines()]
    assert not [end for end in ends if 6.0 < end < 8.0]
    assert {6.0, 8.0} <= set(ends)


def test_an_alarm_ends_when_the_camera_falls_silent_and_not_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message, video and record must not wait for a camera that is gone."""
    monkeypatch.setattr(status_file, "INTERVAL_S", 0.0)
    status, ended = tmp_path / "status.json", []

    class Torn:
        name, live, counters = "door", True, Counters(connected=True)

        def frames(self, stop: threading.Event) -> Iterator[Frame | Silence]:
            began = datetime(2026, 3, 1, 9, tzinfo=UTC)
            for i in (*range(60), *range(3600, 3660)):
                if i == 3600:
                    before = json.loads(status.read_text())
                    assert before["raised"]
                    self.counters.connected, self.counters.connects = False, 7
                    for k in range(3):
                        yield Silence(16.0 + 2 * k)
                        ended.append((tmp_path / "alarms.jsonl").read_text().count("alarm_ended"))
                    (path,) = (tmp_path / "alarms").glob("*.mp4")
                    assert video.probe(path).frames >= 20
                    now = json.loads(status.read_text())
                    assert now["at"] == before["at"], "of the last picture"
                    assert (now["raised"], now["unwatched"]) == (False, 0)
                    assert (now["camera"]["connected"], now["camera"]["connects"]) == (False, 7)
                    self.counters.connected = True
                yield Frame(i, i / 10, began + timedelta(seconds=i / 10), np.full((120, 160, 3), 90, np.uint8))

    _, alarms = _watch(Torn(), Posture(), Falls(30), tmp_path, status=status)
    assert ended == [1, 1, 1]
    assert [alarm["event"] for alarm in alarms] == ["alarm", "alarm_ended"] * 2
    assert alarms[2]["start_s"] >= 360


def test_a_camera_that_sends_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SILENCE_S", 0.3)
    monkeypatch.setattr(sources, "TELL_S", 0.05)
    monkeypatch.setattr(sources, "BACKOFF_S", (0.05,))
    camera = Camera()
    camera.close()
    source, stop = CameraSource(camera.url, 10, 640), threading.Event()
    told = list(itertools.takewhile(lambda silence: source.counters.connects < 5, source.frames(stop)))
    stop.set()
    assert all(isinstance(one, Silence) for one in told)
    assert [one.time_s for one in told] == sorted({one.time_s for one in told})


def test_a_camera_does_not_wait_and_what_is_dropped_is_counted() -> None:
    camera = Camera()
    source, stop = CameraSource(camera.url, 10, 640), threading.Event()
    frames = source.frames(stop)
    indices = []
    for frame in frames:
        assert isinstance(frame, Frame)
        indices.append(frame.index)
        time.sleep(0.02)  # the camera sends as fast as it can: hundreds of frames per second
        if (len(indices) >= 40 and source.counters.dropped) or len(indices) == 1000:
            break
    stop.set()
    camera.close()
    assert source.counters.dropped > 0
    assert indices == sorted(set(indices))
    assert indices[-1] > len(indices)  # newer frames were given, not all
    assert source.counters.read == len(indices)


def test_an_unavailable_camera_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BACKOFF_S", (0.05,))
    camera = Camera()
    camera.close()
    source = CameraSource(camera.url, 10, 640, timeout_s=0.3)
    with pytest.raises(VideoError, match=r"no frame from rtsp://127.0.0.1:\d+/live") as caught:
        list(source.frames(threading.Event()))
    assert "secret" not in str(caught.value)


def test_a_wrong_password_is_named_as_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BACKOFF_S", (0.05,))
    camera = Camera(refuses=True)
    source = CameraSource(camera.url, 10, 640, timeout_s=0.3)
    with pytest.raises(VideoError, match=r"401 Unauthorized.*\(check the user and the password in its address\)"):
        list(source.frames(threading.Event()))
    camera.close()


def test_an_unavailable_model_ends_a_file_and_not_a_camera(
    clip: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Unavailable(Posture):
        def predict(self, keypoints: np.ndarray) -> Prediction:
            raise ServingError("Triton at x: no answer")

    source = FileSource(clip(seconds=4), 10, 640)
    with pytest.raises(ServingError, match="no answer"):
        _watch(source, Unavailable(), Falls(5), tmp_path / "out")
    source.live = True
    stats, _ = _watch(source, Unavailable(), Falls(5), tmp_path / "out", video=False)
    assert stats.refused > 2
    assert stats.windows == 0
    assert caplog.messages == [f"{source.name}: Triton at x: no answer; watching on"]


class Rolled(Posture):
    """A served model whose version changes behind the address: from request ``at`` on, the server takes other clips and
    refuses those of before, which the client learns when it asks who answers."""

    def __init__(self, at: int) -> None:
        super().__init__(frames=10)
        self.metadata = {**self.metadata, "release": "one"}
        self.at, self.requests = at, 0

    def select(self, *, fresh: bool = False) -> bool:
        changes = fresh and self.requests > self.at and self.metadata["release"] == "one"
        if changes:
            self.shape = (1, 16, 17, 3)
            self.metadata = {**self.metadata, "release": "two"}
        return changes

    def predict(self, keypoints: np.ndarray) -> Prediction:
        self.requests += 1
        if keypoints.shape[2] != (10 if self.requests <= self.at else 16):
            raise ServingError("unexpected shape for input 'keypoints'")
        return super().predict(keypoints)


def test_a_new_version_behind_the_address_costs_no_window(clip: Callable[..., Path], tmp_path: Path) -> None:
    model = Rolled(at=7)
    stats, (raised, _) = _watch(FileSource(clip(), 10, 640), model, Falls(40, 65), tmp_path / "out")
    assert stats.refused == 0
    assert stats.windows == 15
    assert {v: row.windows for v, row in stats.versions.items()} == {"one": 7, "two": 8}
    assert raised["model"]["release"] == "two"
    assert (stats.versions["one"].alarms, stats.versions["two"].alarms) == (0, 1)
    assert stats.versions["two"].watched_s == 4.0


def test_a_model_that_does_not_fit(clip: Callable[..., Path]) -> None:
    source, model = FileSource(clip(seconds=1), 10, 640), Posture()

    def watcher(**metadata: str) -> Watcher:
        model.metadata = metadata
        return Watcher(source, model, Falls(5), PoseConfig(), CONFIG)

    with pytest.raises(InputError, match="choose the one that raises alarms, --label, one of normal, abnormal"):
        watcher()
    with pytest.raises(InputError, match="the model takes ntu25 skeletons, the estimator fixed gives coco17"):
        watcher(positive="abnormal", layout="ntu25")
    with pytest.raises(ConfigError, match="a stride of at most a window"):
        WatchConfig(window_s=1, stride_s=2)


class Breaks(Posture):
    """Answers so often, and then something else than an answer."""

    left = 8

    def predict(self, keypoints: np.ndarray) -> Prediction:
        self.left -= 1
        if self.left < 0:
            raise InputError("of another kind")
        return super().predict(keypoints)


def test_what_is_told_whole_is_absent_when_watching_fails(clip: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="of another kind"):
        _watch(FileSource(clip(), 10, 640), Breaks(), Falls(40, 65), out)
    (raised, *_) = [json.loads(line) for line in (out / "alarms.jsonl").read_text().splitlines()]
    assert raised["event"] == "alarm", "what was raised is kept"
    assert not list(out.glob("*.windows.jsonl"))
    assert not (out / "door.mp4").exists()
    assert not list(out.glob(".*.part*")), "nothing is left"
    _watch(FileSource(clip(), 10, 640), Posture(), Falls(40, 65), out)
    whole = {path.name: path.read_bytes() for path in out.glob("door.*")}
    assert set(whole) == {"door.mp4", "door.windows.jsonl"}
    with pytest.raises(InputError):
        _watch(FileSource(clip(), 10, 640), Breaks(), Falls(40, 65), out)
    assert {path.name: path.read_bytes() for path in out.glob("door.*")} == whole, "an earlier result stays"


def test_a_served_model_is_asked(clip: Callable[..., Path], tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model.onnx")
    graph = onnx.load(model)
    for weights in graph.graph.initializer:
        if weights.name == "weight":  # for coordinates below 1: on pixels all probabilities would be 0 or 1
            weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) / 100, "weight"))
    onnx.save(graph, model)
    write_repository(model, tmp_path / "models", name="tiny", queue_delay_us=0)
    rows = {}
    with TritonServer.start(tmp_path / "models", log=tmp_path / "log") as server:
        load_model(server.grpc, "tiny")
        for address in (str(model), f"grpc://{server.grpc}/tiny", f"http://{server.http}/tiny"):
            with open_predictor(address) as predictor:
                _watch(FileSource(clip(), 10, 640), predictor, Falls(40), tmp_path / "out", video=False)
            windows = (tmp_path / "out" / "door.windows.jsonl").read_text()
            rows[address] = [json.loads(line) for line in windows.splitlines()]
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
    words = ["watch", str(tmp_path / "a.mp4"), "--model", str(model), "--out", str(out), "--on", "0.99", "--no-video"]
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "a.mp4: 40 frames, 3 windows, 0 alarms" in printed.err
    assert len((out / "a.windows.jsonl").read_text().splitlines()) == 3
    assert cli.main([*words, "--record", "--store", str(tmp_path / "store")]) == 0  # nobody is seen: no record
    capsys.readouterr()
    for wrong, line in (
        (["watch", str(tmp_path / "no.mp4"), "--model", str(model), "--out", str(out)], "no such file or folder"),
        (["watch", "env:NOT_THERE", "--model", str(model), "--out", str(out)], "NOT_THERE is empty"),
        (["watch", "rtsp://a/b", "rtsp://a/c", "--model", str(model), "--out", str(out)], "one camera at a time"),
        ([*words, "--webhook", "mailto:x"], "a webhook is an address"),
        ([*words, "--label", "fire"], "'fire' is none of the model's classes: normal, abnormal"),
        ([*words, "--off", "0.995"], "thresholds must hold"),
        ([*words, "--record-raw"], "give --record, too"),
        ([*words, "--record", "--record-raw", "--privacy", "blur"], "choose one"),
        ([*words, "--set", "mask.unit=person"], "recognises whole scenes (unit scene)"),
    ):
        assert cli.main(wrong) == 2
        assert line in capsys.readouterr().err
    (tmp_path / "b.mp4").touch()  # is told before a.mp4 is watched: it would be watched again
    assert cli.main(["watch", str(tmp_path), "--model", str(model), "--out", str(tmp_path / "two"), "--no-video"]) == 2
    assert "1 of 2 videos cannot be used: empty file" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()
