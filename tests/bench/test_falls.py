"""Falls and what is mistaken for them: what counts as a fall, false alarms at equal recall, and the table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from skeletons import clip_set

from posewatch.bench import falls
from posewatch.bench.falls import HELD_OUT, act_of, bench_falls, measure, told
from posewatch.config import Experiment, TrainConfig
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.intervals import Interval
from posewatch.datasets.pyskl import write_pyskl
from posewatch.footage.skeletons import RenderedClip


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
    assert found["a"]["own"]["recall"] == 0.75
    assert found["a"]["own"]["false_alarms"] == {"sit": 0.5, "walk": 0.0}
    assert found["a"]["own"]["all"] == 0.25
    assert "own" not in found["b"], "no falls to find"
    assert found["b"]["carried"]["recall"] is None
    assert found["b"]["carried"]["false_alarms"] == {"sit": 1.0, "walk": 0.0}, "at the threshold of the first"
    assert found["c"]["own"]["false_alarms"] == found["a"]["own"]["false_alarms"]
    assert found["c"]["carried"]["recall"] == 0.0


def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(count: int, *, seed: int, kinds: tuple[str, ...], **more: float) -> list[RenderedClip]:
        moves = clip_set(count, seed).keypoints
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
    assert set(report["acts"]["sport"]) == {"normal", "abnormal"}
    assert report["rows"][0]["tests"][HELD_OUT]["own"]["false_alarms"].keys() == {"walk", "lie_down"}
    assert (tmp_path / "falls.md").read_text() == text
    assert "| false alarms, all acts | 20 |" in text
    assert "| sport | clips | without everyday acts, threshold carried |" in text
