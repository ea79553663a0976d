"""The demo of the loop: a camera watched, its alarms judged by somebody who knows the truth, and what is counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from published import tiny_model

from posewatch import alarms, video
from posewatch.bench import loop_cameras as cameras
from posewatch.bench import loop_operator as operator
from posewatch.bench.loop_figures import Point, _at, alarms_at, compared, plot, said
from posewatch.config import load
from posewatch.labels.store import LabelStore
from posewatch.labels.verdicts import current, history
from posewatch.store import FolderStore
from posewatch.watch.config import WatchConfig

EXPERIMENT = load("demo", [*cameras.SETTINGS, "split.length_s=1.0", "split.overlap_s=0"])
CONFIG = WatchConfig(EXPERIMENT.mask.fps, 1.0)


def _always(path: Path) -> Path:
    """A model that takes everybody for abnormal."""
    model = onnx.load(tiny_model(path, 0))
    (weight,) = (one for one in model.graph.initializer if one.name == "weight")
    weight.CopyFrom(numpy_helper.from_array(np.array([[0, 0], [0, 0], [-20, 20]], np.float32), "weight"))
    onnx.save(model, path)
    return path


def test_one_camera_is_watched_judged_and_counted_once(walk: Path, tmp_path: Path) -> None:
    path = tmp_path / "camera-01.mp4"
    with video.Writer(path, 8.0, (320, 240)) as out_:
        for frame in video.read(walk, 8.0, 320, end_s=3.0):
            picture = np.zeros((240, 320, 3), np.uint8)
            picture[: frame.image.shape[0]] = frame.image[:240]
            out_.write(picture)
    store, labels = FolderStore(tmp_path / "store"), LabelStore(f"sqlite:///{tmp_path}/labels.db")
    model, out = _always(tmp_path / "model.onnx"), tmp_path / "out"
    words = ("--store", str(store.root), "--record", "--samples", "0")
    cameras.watch([path], str(model), out, EXPERIMENT, *words)
    (record,) = alarms.records(store)
    assert record.about["camera"] == path.name
    windows = cameras.windows_in(out)
    # what is counted is what the watcher raised: at its threshold, the same alarm
    (rows,) = windows.values()
    (alarm,) = alarms_at(rows, record.about["watch"]["on"], CONFIG)
    assert alarm == pytest.approx((record.about["start_s"], record.about["end_s"]), abs=1e-3)

    for truth, verdict in (({path.name: []}, "false"), ({path.name: [(0.5, 1.0)]}, "true")):
        assert cameras.is_true(record.about, truth, 1.0) == (verdict == "true")

    def judge() -> int:
        return operator.judge(store, labels, lambda _: False, tmp_path, None, tmp_path / "shot.png")

    assert judge() == 1
    # work that is done is not done again
    before = (out / "0" / "alarms.jsonl").read_bytes()
    cameras.watch([path], "nothing serves", out, EXPERIMENT, *words)
    assert (out / "0" / "alarms.jsonl").read_bytes() == before
    assert judge() == 0
    assert {number: one.verdict for number, one in current(labels).items()} == {record.id: "false"}
    assert [one.who for one in history(labels, record.id)] == [operator.WHO]


def test_a_watcher_that_fails_is_told_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(cameras.PosewatchError, match=r"watching failed: posewatch: .*no-such\.mp4.*whole log"):
        cameras.watch([tmp_path / "no-such.mp4"], str(_always(tmp_path / "m.onnx")), tmp_path / "out", EXPERIMENT)


def _windows(*p: float) -> list[tuple[float, float]]:
    return [(1.0 + 0.5 * i, one) for i, one in enumerate(p)]


def test_an_alarm_is_counted_as_the_watcher_raises_it() -> None:
    between = _windows(0.9, *8 * (0.45,), 0.9)  # for longer than alarms are merged over
    assert len(alarms_at(between, 0.5, CONFIG)) == 1, "above the lower threshold it goes on"
    assert len(alarms_at(_windows(0.9, 0.1, 0.1, 0.9), 0.5, CONFIG)) == 1, "soon afterwards it is the same one"
    assert len(alarms_at(_windows(0.9, *8 * (0.1,), 0.9), 0.5, CONFIG)) == 2
    points = [Point(0.9, 8, 10, 0, 1.0), Point(0.7, 9, 10, 1, 1.0), Point(0.5, 10, 10, 1, 1.0)]
    assert _at(points, 0.9) == points[1]
    sample = {"kind": "sample", "camera": "a", "start_s": 0.0, "end_s": 4.0}
    assert [cameras.is_true(sample, {"a": [(3.0, stop)]}, 1.0) for stop in (3.9, 4.5)] == [False, True]


def test_versions_are_compared_at_the_recall_that_the_first_one_has(tmp_path: Path) -> None:
    harm, dance = (0.1, 0.1, 0.9, 0.9, 0.9, 0.9), (0.1, 0.8, 0.8, 0.8, 0.8, 0.1)
    truth = {"harm": [(1.0, 3.0)], "dance": [], "still": []}
    still = _windows(*6 * (0.1,))
    before = {"harm": _windows(*harm), "dance": _windows(*dance), "still": still}
    after = {"harm": _windows(*harm), "dance": still, "still": still}
    told = compared(before, after, truth, (0.5, 0.5), CONFIG)
    assert (told["acts"], told["recall"], told["recordings"]) == (1, 0.9, 3)
    assert told["camera_hours"] == pytest.approx(3 * 3.5 / 3600, abs=1e-4)
    assert [told[name]["own"]["false_alarms"] for name in ("before", "after")] == [1, 0]
    # a threshold between harm and dance tells them apart in both: nothing is better at equal recall
    assert [told[name]["equal"]["false_alarms"] for name in ("before", "after")] == [0, 0]
    assert not told["better"]
    louder = {**before, "dance": _windows(*(min(1.0, p + 0.15) for p in dance))}
    told = compared(louder, after, truth, (0.5, 0.5), CONFIG)
    assert told["better"]
    assert told["before"]["equal"]["false_alarms"] == 1
    # what finds less at every threshold is no better, however quiet it is
    blind = dict.fromkeys(before, _windows(*6 * (0.0,)))
    told = compared(louder, blind, truth, (0.5, 0.5), CONFIG)
    assert not told["better"]
    assert told["after"]["equal"] is None
    assert any("never has that recall" in line for line in said(told))
    plot(told, tmp_path / "loop.png")
    assert (tmp_path / "loop.png").stat().st_size > 10_000
    json.dumps(told)
