"""Windows of persons: who is asked about together, and what gaps become."""

from __future__ import annotations

import numpy as np
from watch.conftest import detections, person

from posewatch.config import PoseConfig
from posewatch.perception.ports import FixedEstimator
from posewatch.perception.skeletons import skeleton
from posewatch.watch.scene import Scene

IMAGE = np.zeros((120, 640, 3), np.uint8)


def _scene(people: int, span: int, where: list[float]) -> Scene:
    found = detections([person((x, 60), False) for x in where])
    return Scene(FixedEstimator(lambda image: found), PoseConfig(), span, people)


def test_a_window_is_what_training_makes_of_the_same_frames() -> None:
    rng = np.random.default_rng(0)
    frames = [detections([person((100 + 3 * t + rng.normal(), 60), t > 5)]) for t in range(12)]
    at = iter(frames)
    scene = Scene(FixedEstimator(lambda image: next(at)), PoseConfig(), 12, 2)
    for t in range(12):
        scene.see(t, IMAGE)
    clips = scene.clips(11)
    wanted = skeleton(frames, PoseConfig(), 10, 640, 120).keypoints
    np.testing.assert_array_equal(clips.keypoints[0], wanted)
    assert clips.ids == ((0,),)


def test_frames_that_were_dropped_show_nobody_and_short_gaps_are_filled() -> None:
    scene = _scene(1, 10, [100.0])
    for t in (*range(4), *range(6, 10)):
        seen = scene.see(t, IMAGE)
    assert seen.ids == (0,)
    gap = scene.clips(9).keypoints[0, 0]
    assert (gap[..., 2] > 0).all()
    assert gap[4, 0, 2] < gap[3, 0, 2]  # interpolated joints count less
    for t in (18, 19, 20):
        scene.see(t, IMAGE)
    late = scene.clips(20).keypoints[0, 0]
    assert (late[:-3] == 0).all()
    assert (late[-3:, :, 2] > 0).all()


def test_a_crowd_hides_nobody() -> None:
    scene = _scene(2, 6, [60.0, 120.0, 300.0, 380.0, 560.0])
    for t in range(6):
        scene.see(t, IMAGE)
    clips = scene.clips(5)
    assert {i for group in clips.ids for i in group} == {0, 1, 2, 3, 4}
    assert clips.keypoints.shape[1:] == (2, 6, 17, 3)
    assert clips.ids[0] == (0, 1)  # first the most present ones, as in training
    assert (2, 3) in clips.ids  # then everybody else with whoever is closest
    assert (3, 4) in clips.ids


def test_nobody() -> None:
    scene = Scene(FixedEstimator(), PoseConfig(), 6, 2)
    scene.see(0, IMAGE)
    assert scene.clips(0).keypoints.shape == (0, 2, 1, 17, 3)
