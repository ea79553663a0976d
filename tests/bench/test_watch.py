"""What a second run of ``posewatch bench watch`` takes over from the first, and what a room costs."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from doubles import ConstantPredictor
from pictures import square
from tiny_models import tiny_model

from posewatch import video
from posewatch.bench import watch, watch_cameras, watch_skipping, watch_ways
from posewatch.config import load
from posewatch.datasets.intervals import Interval
from posewatch.datasets.layouts import FLOW
from posewatch.errors import InputError
from posewatch.records import Detections
from posewatch.stack.process import wait_until
from posewatch.watch.config import WatchConfig
from posewatch.watch.sources import CameraSource


class Looking:
    """Finds the white square, and counts how often it was asked."""

    layout = "coco17"

    def __init__(self, score: float = 0.9) -> None:
        self.looks, self.score = 0, np.float32(score)

    def estimate(self, images: list[np.ndarray]) -> list[Detections]:
        self.looks += len(images)
        return [replace(found, scores=found.scores * 0 + self.score) for found in map(square, images)]


def test_windows_are_kept_for_the_same_file_and_labels(make, tmp_path: Path) -> None:
    path, config, folder = make(seconds=6, size=(320, 240)), load("default", watch.SETTINGS), tmp_path / "windows"
    event = [Interval(path.name, 0.0, 3.0, "abnormal")]
    first = Looking()
    windows = watch.kept_windows(folder, path, event, config, first)
    assert first.looks > 0
    assert {label for _, _, label in windows} == {0, 1}
    assert {k.shape[2] for _, k, _ in windows} == {17 + FLOW}
    assert all(k[:, :, 17:, 2].any() for _, k, _ in windows), "the square moves"
    again = Looking()
    kept = watch.kept_windows(folder, path, event, config, again)
    assert again.looks == 0
    assert [(name, label) for name, _, label in kept] == [(name, label) for name, _, label in windows]
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(kept, windows, strict=True))
    other = Looking()
    assert {label for _, _, label in watch.kept_windows(folder, path, [], config, other)} == {0}
    assert other.looks > 0
    (tmp_path / "b.mp4").write_bytes(b"")
    with pytest.raises(Exception, match="empty file"):
        watch.kept_windows(folder, tmp_path / "b.mp4", [], config, other)


def test_people_are_told_apart_by_the_names_of_their_videos(tmp_path: Path) -> None:
    names = ("Subject 1/Fall/01.mp4", "GMDCSA24/Actor 3/ADL/20.mp4", "Subject_12_ADL_16.mp4@2.5", "falls-003.mp4@0")
    assert list(map(watch._person, names)) == ["Subject 1", "Actor 3", "Subject_12", ""]
    (tmp_path / "Subject 1" / "ADL").mkdir(parents=True)
    (tmp_path / "Subject 1" / "ADL" / "01.mp4").touch()
    (tmp_path / "Subject 1" / "ADL.csv").write_text("File Name,Classes\n01.mp4,Sitting[0 to 9]\n")
    with pytest.raises(InputError, match=r"no videos of at least two persons, named such as Subject 1/Fall/01\.mp4"):
        watch.bench_watch(tmp_path, tmp_path / "out")


def test_an_empty_room_is_looked_at_once_a_second(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_ways, "ROOM_S", 6)
    path, config = make(seconds=12, size=(320, 240)), load("default", watch.SETTINGS)
    paths = watch_ways.rooms(path, tmp_path / "rooms", config, Looking(score=0.3))
    assert list(paths) == ["empty room", "busy room"]
    frames = {name: [frame.image for frame in video.read(paths[name], 10.0, 640)] for name in paths}
    assert {name: len(images) for name, images in frames.items()} == {"empty room": 60, "busy room": 60}
    persons = {name: [len(square(image)) for image in images] for name, images in frames.items()}
    assert not any(persons["empty room"])
    assert all(persons["busy room"])
    noise = np.abs(frames["empty room"][1].astype(int) - frames["empty room"][0]).mean()
    assert 0.5 < noise < 10
    predictor = ConstantPredictor(("normal", "abnormal"), (0.1, 0.9))
    predictor.metadata["positive"] = "abnormal"
    with predictor:
        settings = WatchConfig(10.0, 3.0, watch.STRIDE_S)
        cost = {name: watch_ways.each_way(p, predictor, Looking(), config, settings) for name, p in paths.items()}
    assert [cost["busy room"][way].looked for way in ("every frame", "--still-s 1", "--pose-every 2")] == [1, 1, 0.5]
    assert len(cost["busy room"]["every frame"].raised_s) == 1
    assert cost["empty room"]["every frame"][0::3] == ((), 1)
    assert cost["empty room"]["--still-s 1"].looked < 0.6
    assert all(way.seconds == 6 and way.cpu_s > 0 for way in cost["empty room"].values())
    with pytest.raises(InputError, match="moments without people"):
        watch_ways.rooms(make("b.mp4", seconds=4, size=(320, 240)), tmp_path / "full", config, Looking())
    assert not (tmp_path / "full").exists()


def test_what_several_cameras_cost(make, tmp_path: Path, real_networks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one process each, forked, and as threads: real processes that watch real streams."""
    monkeypatch.setattr(watch_cameras, "SETTLE_S", 0.5)
    path, model = make(seconds=4, size=(320, 240)), tiny_model(tmp_path / "model.onnx")
    table = watch_cameras.bench_cameras([path], tmp_path / "out", counts=[2], seconds=4, model=str(model))
    assert len(table.splitlines()) == 2 + 3
    rows = {row["way"]: row for row in json.loads((tmp_path / "out/cameras.json").read_text())["rows"]}
    assert set(rows) == {"processes", "share", "threads"}
    for row in rows.values():
        assert row["cameras"] == 2
        assert 50 < row["camera_mib"] <= row["all_mib"]
        assert row["cores"] > 0 < row["frame_ms"]
        assert 0 <= row["dropped"] < 1
    assert rows["share"]["all_mib"] > rows["share"]["camera_rss_mib"] > rows["share"]["camera_mib"]
    assert rows["threads"]["all_mib"] < rows["processes"]["all_mib"]
    assert (tmp_path / "out/cameras.md").read_text() == table


def test_a_stream_of_the_benchmark_goes_on_where_the_video_ends(make, tmp_path: Path) -> None:
    path = watch_cameras._shown(make(seconds=1.2, fps=20, size=(320, 240)), tmp_path / "a.mp4", load("default"))
    with watch_cameras._streams([path]) as address:
        before, stop = threading.active_count(), threading.Event()
        with contextlib.closing(CameraSource(f"{address}/0", 10, 320).frames(stop)) as frames:
            seen = [next(frames) for _ in range(20)]
        stop.set()
    assert wait_until(lambda: threading.active_count() < before, 10), "nothing is sent on"
    times = [frame.time_s for frame in seen]
    assert times == sorted(set(times))
    assert times[-1] - times[0] == pytest.approx(1.9, abs=0.5)


def test_what_skipping_brings_to_any_videos(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B-frames that are not decoded, and looks that a still picture saves; alarms only with a model."""
    monkeypatch.setattr(watch_skipping, "build_estimator", lambda config: Looking())
    make("b.mp4", seconds=4, fps=30, size=(320, 240), options={"bf": "2"})
    make("a.mp4", times=[0.0, 3.9], size=(320, 240))
    files = [(name, tmp_path / name) for name in ("a.mp4", "b.mp4")]
    page = watch_skipping.bench_skipping(files, tmp_path / "out")
    a, b = json.loads((tmp_path / "out/skipping.json").read_text())
    assert a["decoding"]["10"]["decoded"] == a["decoding"]["10"]["pictures"] == 2
    assert b["decoding"]["10"]["pictures"] == 120
    assert 40 <= b["decoding"]["10"]["decoded"] < 120
    assert b["ways"]["every frame"]["looked"] == 1
    assert b["ways"]["--pose-every 2"]["looked"] == 0.5
    assert page.count("| all |") == 2
    assert "alarms" not in page
    model = tiny_model(tmp_path / "model.onnx")
    assert "alarms" in watch_skipping.bench_skipping(files[:1], tmp_path / "out", model=str(model))
