"""The benchmark of the person unit on videos whose holders are known, and the scenes with bystanders it renders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from posewatch import video
from posewatch.bench import paper
from posewatch.bench.person_clips import PersonClips
from posewatch.bench.persons import shown, truly
from posewatch.config import load
from posewatch.datasets.paper import sources_of, stem
from posewatch.footage import scenario
from posewatch.footage.truth import Truth
from posewatch.perception.persons import Person
from posewatch.video.files import find_videos


@pytest.fixture
def truth() -> Truth:
    """Two people side by side for ten frames."""
    masks = np.zeros((10, 2, 48, 96), bool)
    masks[:, 0, 8:40, 8:28], masks[:, 1, 8:40, 60:80] = True, True
    return Truth(masks, np.zeros((10, 2, 4), np.float32), np.zeros((10, 2, 17, 3), np.float32), 10)


def masked(folder: Path, truth: Truth, *holders: tuple[int, ...]) -> Person:
    """A person's masked video whose frames show these true people."""
    with video.Writer(folder / "person-0001.mp4", 10, (96, 48)) as out:
        for t, holder in enumerate(holders):
            image = np.zeros((48, 96, 3), np.uint8)
            for q in holder:
                image[truth.masks[t, q]] = 200
            out.write(image)
    return Person(1, "person-0001.mp4", 0, len(holders), len(holders), 0.0, 1.0, (None,) * len(holders))


@pytest.mark.parametrize(
    ("holders", "of", "several"),
    [
        ([(0,)] * 10, [0] * 10, False),
        ([(0,)] * 5 + [(1,)] * 5, [0] * 5 + [1] * 5, True),
        ([(1,)] * 4 + [(0, 1)] * 6, [1] * 4 + [0] * 6, True),
        ([(1,)] * 9 + [(0, 1)], [1] * 9 + [0], False),
        ([()] * 4 + [(1,)] * 6, [-1] * 4 + [1] * 6, False),
    ],
)
def test_who_a_masked_video_holds(tmp_path: Path, truth: Truth, holders: list, of: list[int], several: bool) -> None:
    found = shown(tmp_path, masked(tmp_path, truth, *holders), truth)
    assert [f for f, h in zip(found.holder, holders, strict=True) if len(h) < 2] == [
        q for q, h in zip(of, holders, strict=True) if len(h) < 2
    ]
    assert (found.several, found.told) == (several, False)


def test_the_clips_of_persons_lie_as_the_papers_tools_leave_them(tmp_path: Path, truth: Truth) -> None:
    """`bench paper` reads the folder, with the labels and the source videos."""
    pytest.importorskip("av")
    out = PersonClips(tmp_path / "paper", ("normal", "abnormal"), seed=0)
    for n in range(8):
        person = replace(masked(tmp_path, truth, *[(0,)] * 10), person=n % 2 + 1)
        out.add(f"video-{n // 2:03d}", person, tmp_path / person.file, [(0, 5), (5, 5)], [0, n % 2])
    out.finish()
    files = {
        f"{part}/{name}": (part, path)
        for part in ("train", "val", "test")
        for name, path in find_videos(tmp_path / "paper" / part)
    }
    said = paper._labels(tmp_path / "paper", files)
    assert {stem(name): said.classes[number] for name, number in said.numbers.items()} == {
        f"video-{n // 2:03d}_{n % 2 + 1}_{i}": "abnormal" if i and n % 2 else "normal" for n in range(8) for i in (0, 1)
    }
    assert set(sources_of([stem(name) for name in files])) == {f"video-{k:03d}" for k in range(4)}
    assert {video.probe(path).fps for _, path in files.values()} == {10}


def test_a_moment_is_abnormal_for_whoever_acts() -> None:
    config = load("default", ["mask.fps=10", "labels.min_overlap_s=1"])
    actions = [
        {"person": 0, "action": "fall", "start": 2.0, "stop": 3.5},
        {"person": 0, "action": "lie", "start": 3.5, "stop": 6.0},
        {"person": 1, "action": "walk", "start": 0.0, "stop": 6.0},
    ]
    moments = [(0, 20), (0, 30), (15, 30), (30, 30)]
    assert [truly(actions, 0, *moment, config) for moment in moments] == [0, 1, 1, 1]
    assert [truly(actions, -1, *moment, config) for moment in moments] == [0, 1, 1, 1]
    assert [truly(actions, 1, *moment, config) for moment in moments] == [0] * 4


def test_bystanders_walk_while_somebody_acts() -> None:
    pytest.importorskip("pybullet", reason="pybullet is not installed")
    assert {scenario.people(kind) for kind in scenario.AMONG_TWO} == {3}
    rng = np.random.default_rng(0)
    roles = scenario.play("punch&2", 4.0, [None] * 3, [None] * 3, rng)  # type: ignore[list-item]
    assert [{i.person for i in role.intervals} for role in roles] == [{0}, {1}, {2}]
    assert [role.intervals[-1].action for role in roles] == ["punch", "walk", "walk"]
    apart = roles[1].track[:, [0, 2]].mean(0) - roles[2].track[:, [0, 2]].mean(0)
    assert np.linalg.norm(apart) > 1
