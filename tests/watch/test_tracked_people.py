"""Windows of tracked people: who forms a group, and what becomes of gaps."""

from __future__ import annotations

import numpy as np
import pytest
from doubles import FixedNetwork
from watch.conftest import detections, person

from posewatch.config import PoseConfig
from posewatch.datasets.layouts import FLOW, OF_SCENE
from posewatch.perception.flow import Meter
from posewatch.perception.pictures import Grey
from posewatch.perception.skeletons import skeleton
from posewatch.perception.steady import steadied
from posewatch.watch.tracked_people import TrackedPeople

IMAGE = np.zeros((120, 640, 3), np.uint8)


def _tracked(people: int, span: int, where: list[float]) -> TrackedPeople:
    fixed = detections([person((x, 60), False) for x in where])
    return TrackedPeople(FixedNetwork(lambda image: fixed), PoseConfig(), span, people)


def test_a_window_is_what_training_makes_of_the_same_frames() -> None:
    rng = np.random.default_rng(0)
    frames = [detections([person((100 + 3 * t + rng.normal(), 60), t > 5)]) for t in range(12)]
    at = iter(frames)
    tracked = TrackedPeople(FixedNetwork(lambda image: next(at)), PoseConfig(), 12, 2)
    for t in range(12):
        tracked.update(t, IMAGE)
    window = tracked.window(11)
    wanted = skeleton(frames, PoseConfig(), 10, 640, 120).keypoints
    np.testing.assert_array_equal(window.keypoints[0], wanted)
    assert window.ids == ((0,),)


def test_frames_that_were_dropped_show_nobody_and_short_gaps_are_filled() -> None:
    tracked = _tracked(1, 10, [100.0])
    for t in (*range(4), *range(6, 10)):
        observation = tracked.update(t, IMAGE)
    assert observation.ids == (0,)
    gap = tracked.window(9).keypoints[0, 0]
    assert (gap[..., 2] > 0).all()
    assert gap[4, 0, 2] < gap[3, 0, 2]  # interpolated joints count less
    for t in (18, 19, 20):
        tracked.update(t, IMAGE)
    late = tracked.window(20).keypoints[0, 0]
    assert (late[:-3] == 0).all()
    assert (late[-3:, :, 2] > 0).all()


def test_a_crowd_hides_nobody() -> None:
    tracked = _tracked(2, 6, [60.0, 120.0, 300.0, 380.0, 560.0])
    for t in range(6):
        tracked.update(t, IMAGE)
    window = tracked.window(5)
    assert {i for group in window.ids for i in group} == {0, 1, 2, 3, 4}
    assert window.keypoints.shape[1:] == (2, 6, 17, 3)
    assert window.ids[0] == (0, 1)  # first the most present ones, as in training
    assert (2, 3) in window.ids  # then everybody else with whoever is closest
    assert (3, 4) in window.ids
    # a model that wants those who are in contact is asked about them first, and about everybody else, too
    in_contact = tracked.window(5, "contact")
    assert in_contact.ids[0] == (0, 1)
    assert {i for group in in_contact.ids for i in group} == {0, 1, 2, 3, 4}


def test_those_in_contact_are_the_first_group_of_a_model_that_wants_them() -> None:
    tracked = _tracked(2, 6, [60.0, 330.0, 380.0, 560.0])
    for t in range(6):
        tracked.update(t, IMAGE)
    window = tracked.window(5, "contact")
    assert window.ids[0] == (1, 2)
    assert {i for group in window.ids for i in group} == {0, 1, 2, 3}


def test_nobody() -> None:
    tracked = TrackedPeople(FixedNetwork(), PoseConfig(), 6, 2)
    tracked.update(0, IMAGE)
    assert tracked.window(0).keypoints.shape == (0, 2, 1, 17, 3)


def test_steadied_windows_are_what_training_makes_of_the_same_frames() -> None:
    import cv2

    rng = np.random.default_rng(0)
    sheet = cv2.GaussianBlur(rng.integers(0, 255, (120, 700, 3), np.uint8), (0, 0), 2)
    images = [np.ascontiguousarray(sheet[:, 50 - 3 * t : 690 - 3 * t]) for t in range(12)]
    seen = [detections([person((100 + 3 * t + rng.normal(), 60), False)]) for t in range(12)]
    wanted = skeleton(seen, PoseConfig(), 10, 640, 120).keypoints
    at = iter(seen)
    tracked = TrackedPeople(FixedNetwork(lambda image: next(at)), PoseConfig(steady=True), 10, 2)
    for t, image in enumerate(images):
        if t == 7:
            tracked.repeat(t, image, tracked.update(t, image))  # a frame at which the network does not look
        else:
            tracked.update(t, image)
    window, pictures = tracked.window(11), [Grey.of(image) for image in images]
    steady = steadied(wanted[:, 2:], pictures[2:])
    np.testing.assert_allclose(window.keypoints[0], steady, rtol=1e-6)
    assert np.abs(steady - wanted[:, 2:]).max() > 0.3
    assert window.ids == ((0,),)
    ((_, alone),) = tracked.persons(11).items()
    np.testing.assert_allclose(alone, steady[:1], rtol=1e-6)
    tracked.begin(20)
    assert not tracked.window(20).keypoints.any()


@pytest.mark.parametrize("steady", [False, True])
def test_windows_have_the_flow_of_training_clips_for_a_model_that_wants_it(steady: bool) -> None:
    import cv2

    rng = np.random.default_rng(0)
    sheet = cv2.GaussianBlur(rng.integers(0, 255, (120, 700, 3), np.uint8), (0, 0), 2)
    images = [np.ascontiguousarray(sheet[:, 50 - 3 * t : 690 - 3 * t]) for t in range(14)]
    seen = [detections([person((100 + 3 * t, 60), False), person((300 - 2 * t, 60), False)]) for t in range(14)]
    at = iter(seen)
    tracked = TrackedPeople(FixedNetwork(lambda image: next(at)), PoseConfig(steady=steady), 10, 2, fps=10)
    tracked.flow = True
    for t, image in enumerate(images[:12]):
        tracked.update(t, image)
    assert tracked.window(11).keypoints.shape == (1, 2, 10, 17 + FLOW, 3)
    for t in (12, 13):
        tracked.update(t, images[t])
    window = tracked.window(13)
    keypoints = window.keypoints[0, :, :, :17]
    wanted = Meter(10).measure(4, keypoints, [Grey.of(image) for image in images[4:]])
    np.testing.assert_allclose(window.keypoints[0, :, :, 17:], wanted, rtol=1e-5)
    assert (wanted[:, :-1, :, 2] == 1).all()
    alone = np.concatenate(list(tracked.persons(13).values()))
    wanted = Meter(10).measure(4, alone[:, :, :17], [Grey.of(image) for image in images[4:]], alone=True)
    np.testing.assert_allclose(alone[:, :, 17:], wanted, rtol=1e-5)
    np.testing.assert_allclose(alone[:, :, :-OF_SCENE], window.keypoints[0][:, :, :-OF_SCENE], rtol=1e-5)
    assert np.abs(alone[1, :, -OF_SCENE:] - window.keypoints[0][1, :, -OF_SCENE:]).max() > 1, "near the person"
    tracked.flow = False
    assert tracked.window(13).keypoints.shape[3] == 17
