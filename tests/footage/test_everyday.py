"""Acts that are mistaken for falls: made of key poses, on the floor or a bed, and named."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pybullet", reason="the footage maker needs pybullet (pip install 'posewatch[footage]')")

from posewatch.cli.main import main
from posewatch.datasets.pyskl import read_pyskl
from posewatch.errors import ConfigError
from posewatch.footage import scenario, truth
from posewatch.footage.engine import Figure, world
from posewatch.footage.everyday import PLANS, REST, STANDUP, perform
from posewatch.footage.figure import draw_look, write_figure
from posewatch.footage.motion import RATE, chain
from posewatch.footage.skeletons import ACTS, make_skeletons

HIPS, SHOULDERS, ANKLES, WRISTS = [11, 12], [5, 6], [15, 16], [9, 10]


@pytest.fixture(scope="module")
def joints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The joints (T, 17, 3), five a second, of ten seconds of each act after a second of standing."""
    out = {}
    before = chain([("stand", 1.0)], facing=0.7, place=(1.0, 2.0))
    look = draw_look(np.random.default_rng(0))
    with world() as client:
        figure = Figure(client, write_figure(look, tmp_path_factory.mktemp("figure"), skin=False), 1.0)
        for name in PLANS:
            track, spans = perform(name, before, 10.0, np.random.default_rng(3))
            assert len(track) == 10 * RATE
            assert abs(sum(s for _, s in spans) - 10) < 0.01
            assert all(a != b for (a, _), (b, _) in itertools.pairwise(spans))
            assert {act for act, _ in spans} <= {*PLANS, REST, STANDUP}
            assert np.abs(np.diff(np.concatenate([before[-1:], track])[:, :3], axis=0)).max() < 0.12, name
            rows = []
            for pose in track[::6]:
                figure.pose(pose)
                rows.append(truth.joints(figure))
            out[name] = np.array(rows)
    return out


def test_nobody_sinks_into_the_floor_or_hovers(joints: dict[str, np.ndarray]) -> None:
    for name, points in joints.items():
        low = points[..., 1].min(1)
        assert low.min() > -0.06, name
        if name != "lie_down":  # on a bed
            assert low.max() < 0.3, name


def test_what_a_body_does_is_what_the_act_says(joints: dict[str, np.ndarray]) -> None:
    height = {name: points[:, HIPS, 1].mean(1) for name, points in joints.items()}
    upright = {name: (points[:, SHOULDERS] - points[:, HIPS]).mean(1)[:, 1] for name, points in joints.items()}
    assert 0.35 < height["sit"].min() < 0.6 < height["sit"][0]
    assert 0.35 < height["old_sit"].min() < 0.6
    assert height["sit_floor"][-1] < 0.2
    assert upright["sit"].min() > 0.15
    assert abs(upright["lie_down"][-1]) < 0.15
    assert height["lie_down"][-1] > 0.15 or upright["lie_down"][-1] < 0.1
    assert joints["pickup"][:, WRISTS, 1].min() < 0.3
    assert joints["tie_shoe"][:, WRISTS, 1].min() < 0.35
    down = np.diff(np.sign(np.diff(height["squat"]))) > 0
    assert down.sum() >= 3, "squats are repeated"
    assert np.abs(upright["pushup"][-10:]).max() < 0.3
    assert joints["pushup"][-10:, WRISTS, 1].max() < 0.3


def test_feet_stay_where_they_are(joints: dict[str, np.ndarray]) -> None:
    for name in ("squat", "sit"):
        feet = joints[name][2:, ANKLES].mean(1)[:, [0, 2]]
        assert np.linalg.norm(feet - feet[0], axis=1).max() < 0.12, name


def test_old_people_walk_slowly_and_bent() -> None:
    old, young = (chain([(name, 6.0)], radius=50.0, speed=s) for name, s in (("old_walk", 0.6), ("walk", 1.0)))

    def way(track: np.ndarray) -> float:
        return float(np.linalg.norm(np.diff(track[:, [0, 2]], axis=0), axis=1).sum())

    assert way(old) < 0.6 * way(young)


def test_kinds_are_named_alone_or_in_groups() -> None:
    assert scenario.kinds_of(["everyday", "walk"]) == (*scenario.EVERYDAY_KINDS, "walk")
    with pytest.raises(ConfigError, match="did you mean 'lie_down'"):
        scenario.kinds_of(["liedown"])


def test_clips_say_what_is_done_in_them_and_falls_come_from_a_chair_too() -> None:
    clips = make_skeletons(24, seconds=3.0, fps=5.0, seed=2, kinds=("lie_down", "sit>fall"))
    acts = {act for clip in clips for act in clip.acts}
    assert {"lie_down", REST, "sit", "fall", "lie"} <= acts
    assert acts <= set(ACTS)
    assert all(sum(clip.acts.values()) == pytest.approx(3.0, abs=0.1) for clip in clips)


def test_the_verb_makes_the_kinds_that_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["footage", "--out", str(tmp_path), "--skeletons", "12", "--fps", "5", "--kinds"]
    assert main([*words, "squat,crawl"]) == 0
    clips, _ = read_pyskl(tmp_path / "skeletons.pkl")
    assert set(clips.classes) <= {"squat", "crawl", "stand", "walk"}
    assert "crawl" in clips.classes
    assert main([*words, "squats", "--force"]) != 0
    assert "did you mean 'squat'" in capsys.readouterr().err


def test_rendered_videos_of_everyday_acts_are_normal(tmp_path: Path) -> None:
    from posewatch.footage import make_footage

    made = make_footage(
        tmp_path, videos=1, seconds=3.0, fps=2.0, size=(64, 64), workers=1, kinds=scenario.kinds_of(["tie_shoe"])
    )
    assert made[0].labels == ((0.0, 3.0, "normal"),)
    actions = json.loads(made[0].truth.with_suffix(".json").read_text())["actions"]
    assert "tie_shoe" in {row["action"] for row in actions}
