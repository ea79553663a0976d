"""Skeletons of rendered people without pictures: acts, what hides what, and the estimator's errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pybullet", reason="the footage maker needs pybullet (pip install 'posewatch[footage]')")

from posewatch.cli.main import main
from posewatch.datasets.pyskl import read_pyskl
from posewatch.footage import joint_errors
from posewatch.footage.scenario import Interval
from posewatch.footage.scene import Camera
from posewatch.footage.skeletons import ACTS, RenderedClip, label, make_skeletons, observe


@pytest.fixture(scope="module")
def clips() -> list[RenderedClip]:
    return make_skeletons(30, seconds=2.0, fps=5.0, seed=1)


def test_clips_of_many_acts_in_which_somebody_is_seen(clips: list[RenderedClip]) -> None:
    assert len(clips) == 30
    assert {clip.act for clip in clips} <= set(ACTS)
    assert len({clip.act for clip in clips}) >= 2
    assert len({clip.scene for clip in clips}) >= 2
    for clip in clips:
        m, t, v, c = clip.keypoints.shape
        assert (t, v, c) == (10, 17, 3)
        assert 1 <= m <= 4
        assert np.isfinite(clip.keypoints).all()
        seen = clip.keypoints[..., 2] > 0
        assert seen.any((0, 2)).mean() >= 0.3
        assert (clip.keypoints[~seen] == 0).all()
        assert ((clip.keypoints[..., :2] >= 0) & (clip.keypoints[..., :2] <= (640, 480))).all()


def test_equal_seeds_give_equal_clips(clips: list[RenderedClip]) -> None:
    again = make_skeletons(3, seconds=2.0, fps=5.0, seed=1)
    assert all(np.array_equal(a.keypoints, b.keypoints) for a, b in zip(again, clips, strict=False))
    other = make_skeletons(1, seconds=2.0, fps=5.0, seed=2)
    assert not np.array_equal(other[0].keypoints, clips[0].keypoints)


def test_the_label_is_the_abnormal_act_that_is_long_enough() -> None:
    plan = [
        Interval(0, "walk", 0, 2),
        Interval(0, "fall", 2, 3.5),
        Interval(0, "lie", 3.5, 9),
        Interval(1, "stand", 0, 9),
    ]
    spans = [(0, 2.2, "walk"), (0, 3, "fall"), (2.5, 5.5, "lie"), (0, 1, "walk")]
    assert [label(plan, start, stop) for start, stop, _ in spans] == [act for *_, act in spans]
    assert label([Interval(0, "dance_slow", 0, 3), Interval(1, "kick", 1, 3)], 0, 1.2) == "dance"


def person(x: float, z: float, facing: float = 0.0) -> np.ndarray:
    """A person (1, 1, 17, 3) who stands at (x, z) and faces +x, turned by ``facing``; y is up."""
    side = dict(zip(range(5, 17, 2), (0.18, 0.22, 0.24, 0.09, 0.1, 0.1), strict=True))
    side |= {left + 1: -apart for left, apart in side.items()}
    up = {5: 1.35, 7: 1.08, 9: 0.85, 11: 0.85, 13: 0.46, 15: 0.08}
    out = np.zeros((1, 1, 17, 3))
    for j in range(5):
        out[0, 0, j] = (0.1 if j < 3 else 0.0, 1.55, {1: 0.03, 2: -0.03, 3: 0.08, 4: -0.08}.get(j, 0.0))
    for j, z_of in side.items():
        out[0, 0, j] = (0.0, up[j if j in up else j - 1], z_of)
    c, s = np.cos(facing), np.sin(facing)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return out @ turn.T + np.array([x, 0, z])


CAMERA = Camera((6.0, 1.2, 0.0), (0.0, 1.0, 0.0), 45.0, (640, 480))


def test_a_camera_in_front_sees_nearly_all_and_one_at_the_side_the_near_half() -> None:
    _, front = observe(person(0, 0), CAMERA)
    assert front[0, 0, 5:].sum() >= 11
    _, side = observe(person(0, 0, np.pi / 2), CAMERA)
    near, far = (5, 7, 9), (6, 8, 10)
    counts = sorted([side[0, 0, list(near)].sum(), side[0, 0, list(far)].sum()])
    assert counts[1] == 3
    assert counts[0] <= 1, "the trunk hides the arm behind it"


def test_whoever_stands_behind_somebody_is_hidden() -> None:
    both = np.concatenate([person(1.5, 0), person(0, 0)])
    _, visible = observe(both, CAMERA)
    assert visible[0].mean() > 0.85
    assert visible[1].mean() < 0.6
    _, apart = observe(np.concatenate([person(1.5, 1.5), person(0, -1.5)]), CAMERA)
    assert apart.mean() > 0.85


def test_joints_outside_of_the_picture_are_not_seen() -> None:
    _, visible = observe(person(0, 40), CAMERA)
    assert not visible.any()


def test_errors_are_as_measured() -> None:
    rng = np.random.default_rng(0)
    points = np.broadcast_to(np.linspace((100, 100), (200, 300), 17), (40, 60, 17, 2)).copy()
    visible = rng.random((40, 60, 17)) < 0.8
    out = joint_errors.estimated(points, visible, (640, 480), rng)
    found = out[..., 2].max(-1) > 0
    assert 0.85 < found.mean() < 1
    off = np.log(np.linalg.norm(out[..., :2] - points, axis=-1) / 200)
    for kind, which in ((0, visible), (1, ~visible)):
        chosen = which & found[..., None]
        for group, at in ((0, 0), (3, 9)):
            got = off[..., at][chosen[..., at]]
            assert abs(np.median(got) - joint_errors.ERRORS[kind, group, 0]) < 0.15
    steps = (out[..., :2] - points)[:, :, 11]
    both = found[:, 1:] & found[:, :-1]
    now, before = steps[:, 1:][both].ravel(), steps[:, :-1][both].ravel()
    assert np.corrcoef(now, before)[0, 1] > 0.3, "errors last for more than a frame"


def test_the_verb_writes_clips_of_the_length_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["footage", "--out", str(tmp_path), "--skeletons", "4", "--fps", "5"]
    assert main([*words, "--seconds", "5"]) == 0
    clips, splits = read_pyskl(tmp_path / "skeletons.pkl")
    assert [k.shape[1] for k in clips.keypoints] == [25] * 4
    assert (clips.fps, clips.certain, splits) == (5.0, True, {})
    assert main([*words, "--force"]) == 0
    assert {k.shape[1] for k in read_pyskl(tmp_path / "skeletons.pkl")[0].keypoints} == {15}
    assert "4 clips of" in capsys.readouterr().out
