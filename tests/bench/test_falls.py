"""Falls and what is mistaken for them: what counts as a fall, false alarms at equal recall, and the table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from skeletons import clip_set, walk

from posewatch.artifact import Job, collect, produce
from posewatch.bench import falls
from posewatch.bench.falls import HELD_OUT, act_of, bench_falls, measure, told
from posewatch.bench.loop import _arrays, _lines
from posewatch.config import Experiment, TrainConfig
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.intervals import Interval
from posewatch.datasets.pyskl import write_pyskl
from posewatch.digests import digest
from posewatch.errors import InputError
from posewatch.footage.skeletons import RenderedClip
from posewatch.records import Clip, clip_id, video_id
from posewatch.store import FolderStore


def test_the_end_of_a_fall_is_neither_a_fall_nor_anything_else() -> None:
    assert told({"walk": 2.0, "fall": 1.0}, "fall") == "fall"
    assert told({"fall": 0.6, "lie": 2.4}, "lie") == "fall"
    assert told({"fall": 0.3, "lie": 2.7}, "lie") is None
    assert told({"lie": 3.0}, "lie") is None
    assert told({"lie_down": 1.0, "rest": 2.0}, "rest") == "rest"


def test_windows_of_real_videos_are_of_the_longest_act_or_of_the_beginning_of_a_fall() -> None:
    spans = [
        Interval("a", 0, 2, "normal", act="Walking"),
        Interval("a", 2, 5, "normal", act="Sitting"),
        Interval("a", 5, 15, "abnormal", act="Falling (FW)"),
    ]
    asked = [(0, 3), (2, 5), (3, 5.4), (3, 6), (6.4, 9), (16, 19)]
    assert [act_of(spans, a, b, "abnormal") for a, b in asked] == ["Walking", "Sitting", "", "fall", "", ""]


def test_both_are_compared_at_the_recall_that_is_asked_for() -> None:
    acts = ("fall",) * 4 + ("sit", "sit", "walk", "walk")
    clips = dataclasses.replace(clip_set(8), labels=np.array([1] * 4 + [0] * 4), classes=("other", "fall"), acts=acts)
    p = np.array([0.9, 0.8, 0.7, 0.1, 0.75, 0.2, 0.0, 0.05], np.float32)
    found = measure({"a": p, "b": p[[4, 6]], "c": p / 2}, {"a": clips, "b": clips.subset([4, 6]), "c": clips}, 0.75)
    assert found["a"]["auc"] == 13 / 16
    assert found["a"]["own"]["recall"] == 0.75
    assert found["a"]["own"]["false_alarms"] == {"sit": 0.5, "walk": 0.0}
    assert found["a"]["own"]["all"] == 0.25
    assert "own" not in found["b"], "no falls to find"
    assert found["b"]["carried"]["recall"] is None
    assert found["b"]["carried"]["false_alarms"] == {"sit": 1.0, "walk": 0.0}, "at the threshold of the first"
    assert found["c"]["own"]["false_alarms"] == found["a"]["own"]["false_alarms"]
    assert found["c"]["carried"]["recall"] == 0.0


def test_as_many_clips_as_are_asked_for_are_rendered_of_falls_only_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def made(count: int, *, kinds: tuple[str, ...], **_: float) -> list[RenderedClip]:
        asked.append(count)
        acts = ("walk", "fall", "lie", "walk", "walk")
        return [RenderedClip(walk(0, False), acts[i % 5], f"s{i // 3}", {acts[i % 5]: 2.0}) for i in range(count)]

    monkeypatch.setattr(falls, "make_skeletons", made)
    found = falls.rendered(("walk>fall",), 4, 2.0, 10.0, 0, "fall")
    assert [(act, scene) for _, act, scene in found] == [("fall", f"fall-s{i // 3}") for i in (1, 6, 11, 16)]
    assert asked == [10, 20], "a fifth shows falls"
    # somebody who lies is the end of a fall: no other kind of clip
    assert [act for _, act, _ in falls.rendered(("walk",), 4, 2.0, 10.0, 0, "x")] == ["walk", "fall", "walk", "walk"]
    both = falls._training(30, 2.0, 10.0, 0)
    assert [way.labels.tolist().count(1) >= 10 for way in both.values()] == [True, True]
    assert [len(way) for way in both.values()] == [30, 30], "what is taught is all that differs"
    assert both["with"].groups[:2] == ("fall-s0", "fall-s2")


def test_prepared_clips_of_real_videos_are_told_by_intervals(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    rows, cut, posed = [], [], []
    for name in ("one.mp4", "two.mp4"):
        video = video_id(digest(name))
        clips = [Clip(clip_id(video, s, 2.0), video, s, 2.0, 8.0, 16, 64, 48, 1.0) for s in (0.0, 2.0, 4.0, 6.0)]
        arrays = {clip.id: walk(i, False, 16) * (i != 1) for i, clip in enumerate(clips)}  # nobody in the second
        rows.append({"video": video, "names": [f"folder/{name}"]})
        cut.append(produce(store, Job("clips", video, {}), _lines(clips)))
        about = {"fps": 8.0, "width": 64, "height": 48, "layout": "coco17"}
        posed.append(produce(store, Job("skeletons", video, {}, (cut[-1],)), _arrays(arrays, about)))
    skeletons = collect(store, "pose", rows, posed)
    spans = [
        Interval("one.mp4", 0, 4, "normal", act="sit"),
        Interval("elsewhere/one.mp4", 4, 5.4, "fall"),
        Interval("three.mp4", 0, 9, "normal"),
    ]
    found = falls.real_windows(skeletons, spans, "fall")
    assert (found.acts, found.labels.tolist(), found.fps) == (("sit", "fall"), [0, 1], 8.0)
    assert set(found.groups) == {"folder/one.mp4"}
    with pytest.raises(InputError, match="tell nothing of the videos"):
        falls.real_windows(skeletons, spans[2:], "fall")


def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def made(count: int, *, seed: int, kinds: tuple[str, ...], **more: float) -> list[RenderedClip]:
        seeds.append(seed)
        moves = [walk(seed + i, "sit>fall" in kinds) for i in range(count)]
        act = "fall" if "sit>fall" in kinds else "lie_down" if "lie_down" in kinds else "walk"
        return [RenderedClip(k, act, f"scene-{i // 3}", {act: 2.0}) for i, k in enumerate(moves)]

    monkeypatch.setattr(falls, "make_skeletons", made)
    config = TrainConfig(model="pooled-statistics", stream="j", clip_frames=8, epochs=1, validation=0.0, threads=1)
    beside: ClipSet = clip_set(4)
    write_pyskl(tmp_path / "sport.pkl", beside, {})
    text = bench_falls(
        tmp_path, Experiment(train=config), clips=30, seeds=1, recall=0.8, seconds=2.0, files=[tmp_path / "sport.pkl"]
    )
    report = json.loads((tmp_path / "falls.json").read_text())
    assert {row["way"] for row in report["rows"]} == {"with", "without"}
    assert all(row["tests"][HELD_OUT]["own"]["recall"] >= 0.8 for row in report["rows"])
    assert all(row["tests"][HELD_OUT]["auc"] > 0.6 for row in report["rows"])
    assert seeds == [falls.TEST_SEED] * 3 + [0] * 3, "no scene is tested on that was trained on"
    assert set(report["acts"]["sport"]) == {"normal", "abnormal"}
    assert report["rows"][0]["tests"][HELD_OUT]["own"]["false_alarms"].keys() == {"walk", "lie_down"}
    assert (tmp_path / "falls.md").read_text() == text
    assert "| false alarms, all acts | 20 |" in text
    assert "| sport | clips | without everyday acts, threshold carried |" in text
