"""The simulated loop: cameras that share no clip, a whole round through the product, rows computed once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skeletons import clip_set

pytest.importorskip("torch")

from posewatch.bench.loop import bench_loop
from posewatch.bench.loop_report import table
from posewatch.bench.loop_world import world
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.pyskl import write_pyskl
from posewatch.errors import InputError


def _clips(groups: int) -> ClipSet:
    made = clip_set(8 * groups, people=2)
    return replace(made, groups=tuple(f"pair{i // 8}" for i in range(8 * groups)), fps=15.0)


def test_a_camera_has_a_view_of_its_own_and_its_later_windows_are_of_other_clips() -> None:
    clips = _clips(8)
    # who a clip is of can be read from it: its own number in the score of a joint
    marked = []
    for i, keypoints in enumerate(clips.keypoints):
        keypoints[..., 0, 2] = (i + 1) / 100
        marked.append(keypoints)
    seen = world(replace(clips, keypoints=tuple(marked)), 1, 12, 30, 0, windows=60)

    def of(stream: object) -> set[int]:
        return {round(float(k[..., 0, 2].max()) * 100) - 1 for k in stream.keypoints}  # type: ignore[attr-defined]

    start, past, later, others = (of(s) for s in (seen.start, seen.past, seen.later, seen.others))
    assert not start & (past | later | others)
    assert not past & later
    assert not others & (past | later)
    assert set(seen.past.cameras) == set(seen.later.cameras)
    assert not set(seen.others.cameras) & {*seen.past.cameras, *seen.start.cameras}
    assert 0.05 < seen.past.abnormal.mean() < 0.2
    again = world(replace(clips, keypoints=tuple(marked)), 1, 12, 30, 0, windows=60)
    assert all(np.array_equal(a, b) for a, b in zip(seen.past.keypoints, again.past.keypoints, strict=True))
    with pytest.raises(InputError, match="needs 6 groups of people"):
        world(_clips(4), 1, 12, 30, 0)


def test_a_round_goes_through_the_product_and_is_not_computed_twice(tmp_path: Path) -> None:
    path = tmp_path / "clips.pkl"
    write_pyskl(path, replace(_clips(7), certain=True), {})
    settings = ["train.epochs=1", "train.stream=j"]
    given = {"config": "default", "starts": (12,), "seeds": 1}
    result = bench_loop(path, tmp_path / "out", settings, counts=(0, 3), windows=60, **given)  # type: ignore[arg-type]
    assert [(row["arm"], row["labels"]) for row in result["rows"]] == [
        (arm, labels) for arm in ("verdicts", "mixed", "random") for labels in (0, 3)
    ]  # fmt: skip
    first = [row["judged_false_per_hour"] for row in result["rows"]]
    assert first[0] == first[2] == first[4], "all begin with one model"
    assert "verdicts on alarms" in table(result)
    told = json.loads((tmp_path / "out" / "loop.json").read_text())
    assert told["summary"][0]["judged_share"] == 1.0
    (tmp_path / "out" / "loop.png").unlink()
    work = sorted((tmp_path / "out" / "work").rglob("*.pt"))
    again = bench_loop(path, tmp_path / "out", settings, counts=(0, 3), windows=60, **given)  # type: ignore[arg-type]
    assert again["rows"] == result["rows"]
    assert (tmp_path / "out" / "loop.png").exists()
    assert sorted((tmp_path / "out" / "work").rglob("*.pt")) == work
