"""How pixels move, of people and where most moves: patches of a patterned sheet that move as they are told."""

from __future__ import annotations

import numpy as np
import pytest

from posewatch.datasets.layouts import FLOW, OF_PERSON
from posewatch.perception import flow
from posewatch.perception.flow import NUMBERS, Meter, _Move
from posewatch.perception.pictures import Grey

T, FPS, SIZE = 6, 10.0, 100
LEFT, RIGHT = (80, 130), (400, 130)
"""Where two people stand, (x, y) of their upper left corner; they are SIZE pixels tall."""


def rough(seed: int, height: int, width: int) -> np.ndarray:
    import cv2

    noise = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(cv2.resize(noise, (width, height)), (0, 0), 2), np.uint8)


def pictures(steps: tuple[int, int], camera: int = 0, frames: int = T) -> list[Grey]:
    """A patch on the left and one on the right, which move by ``steps`` pixels a frame; the ground by ``camera``."""
    ground, patches = rough(0, 360, 800), [rough(1 + i, 160, 160) for i in range(2)]
    out = []
    for t in range(frames):
        image = ground[:, 60 + camera * t : 700 + camera * t].copy()
        for (x, y), step, patch in zip((LEFT, RIGHT), steps, patches, strict=True):
            at = x - 30 + (step - camera) * t
            image[y - 30 : y + 130, at : at + 160] = patch
        out.append(Grey.of(np.ascontiguousarray(image)))
    return out


def people(frames: int = T) -> np.ndarray:
    """Keypoints (2, T, 17, 3) of two who stand still, as far as joints tell."""
    rng = np.random.default_rng(3)
    joints = rng.uniform(0, 1, (17, 2)) * (SIZE / 2, SIZE)
    joints[0], joints[1] = (0, 0), (SIZE / 2, SIZE)
    out = np.ones((2, frames, 17, 3), np.float32)
    for person, at in zip(out, (LEFT, RIGHT), strict=True):
        person[..., :2] = joints + at
    return out


def numbers(found: np.ndarray, scene: bool = False) -> dict[str, np.ndarray]:
    """Each number of the persons, or of the scene, by its name, (M, T)."""
    columns = found[:, :, OF_PERSON:] if scene else found[:, :, :OF_PERSON]
    values = columns[..., :2].reshape(*found.shape[:2], 2 * OF_PERSON)
    return {name: values[..., i] for i, name in enumerate(NUMBERS)}


def test_speeds_are_body_sizes_a_second_of_the_person_s_own_pixels() -> None:
    found = Meter(FPS).measure(0, people(), pictures((4, 0)))
    assert found.shape == (2, T, FLOW, 3)
    known = numbers(found)
    speed = 100 * 4 * FPS / SIZE
    assert known["speed"][0, :-1] == pytest.approx(speed, rel=0.15)
    assert known["drift"][0, :-1] == pytest.approx(speed, rel=0.15)
    assert (known["own speed"][0, :-1] < speed / 4).all(), "all of it moves alike"
    assert (known["speed"][1, :-1] < speed / 10).all()
    assert (known["change"][0, :-1] > 3 * known["change"][1, :-1]).all()
    assert (found[:, :-1, :, 2] == 1).all()
    assert not found[:, -1].any(), "no picture comes after the last"


def test_what_the_camera_does_is_taken_away() -> None:
    still, turned = (numbers(Meter(FPS).measure(0, people(), pictures((0, 0), camera))) for camera in (0, 3))
    moving = numbers(Meter(FPS).measure(0, people(), pictures((3, 3))))
    # people who stand in the world move in the picture as the ground does
    assert (moving["speed"][:, :-1] > 20).all()
    assert (still["speed"][:, :-1] < 3).all()
    assert (turned["speed"][:, :-1] < 3).all()


def test_frames_without_a_picture_and_people_of_whom_little_is_seen() -> None:
    shown: list[Grey | None] = [*pictures((4, 0))]
    whole = Meter(FPS).measure(0, people(), shown)
    shown[2] = None
    keypoints = people()
    keypoints[1, :, 3:] = 0
    found = Meter(FPS).measure(0, keypoints, shown)
    assert found[0, :, 0, 2].tolist() == [1, 1, 0, 1, 1, 0]
    assert not found[1, :, :OF_PERSON].any()
    np.testing.assert_array_equal(found[0, :, OF_PERSON:], found[1, :, OF_PERSON:])
    assert found[1, :, OF_PERSON, 2].tolist() == [1, 1, 0, 1, 1, 0]
    assert numbers(found)["speed"][0, 1] == pytest.approx(numbers(whole)["speed"][0, 1], rel=0.2), "over two frames"
    assert not Meter(FPS).measure(0, people(), [None] * T).any()
    other = [*pictures((4, 0))[:3], *(Grey(np.zeros((99, 99), np.uint8), 1.0) for _ in range(3))]
    assert Meter(FPS).measure(0, people(), other)[0, :, 0, 2].tolist() == [1, 1, 0, 1, 1, 0], "another camera's shape"


def test_what_was_measured_for_one_clip_serves_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = pictures((4, 1), frames=8)
    calls: list[int] = []
    plain = flow._numbers
    monkeypatch.setattr(flow, "_numbers", lambda *given: calls.append(0) or plain(*given))
    dense: list[int] = []
    meter = Meter(FPS)
    computed = meter._compute
    monkeypatch.setattr(meter, "_compute", lambda *given: dense.append(0) or computed(*given))
    first = meter.measure(0, people(6), shown[:6])
    assert (len(dense), len(calls)) == (5, 2 * 5 + 5)
    second = meter.measure(2, people(6), shown[2:])
    assert len(dense) == 5 + 2, "frames 2 to 4 are known; the last of the first clip has its next picture now"
    assert len(calls) == 2 * (5 + 2) + 5 + 5, "the place is of the clip"
    np.testing.assert_array_equal(second, Meter(FPS).measure(2, people(6), shown[2:]))
    np.testing.assert_array_equal(first[:, 2:5, :OF_PERSON], second[:, :3, :OF_PERSON])
    for known in (meter._flows, meter._coarse, meter._known):
        assert min(number for number, *_ in known) == 2, "what is over is forgotten"
    shorter = meter.measure(2, people(3), shown[2:5])
    assert not shorter[:, -1].any(), "known, but the last of its clip"


def test_few_dense_flows_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = pictures((4, 1), frames=8)
    whole = Meter(FPS).measure(0, people(8), shown)
    monkeypatch.setattr(flow, "KEPT", 3)
    meter = Meter(FPS)
    np.testing.assert_array_equal(meter.measure(0, people(8), shown), whole)
    assert len(meter._flows) == 3
    moved = people(8) + np.float32([5, 5, 0])  # other boxes: their flows are computed once more
    np.testing.assert_array_equal(meter.measure(0, moved, shown), Meter(FPS).measure(0, moved, shown))


def test_people_at_the_border_and_out_of_the_picture() -> None:
    keypoints = people()
    keypoints[0, ..., 0] -= 120
    keypoints[1, ..., 0] += 1000
    found = Meter(FPS).measure(0, keypoints, pictures((4, 0)))
    assert np.isfinite(found).all()
    assert not found[1, :, :OF_PERSON, :2].any()


@pytest.mark.parametrize("shape", [(24, 320), (31, 480), (31, 100), (300, 20), (16, 480)])
def test_a_narrow_strip_has_no_flow(shape: tuple[int, int]) -> None:
    """OpenCV ends the process on most of these."""
    rng = np.random.default_rng(0)
    strip = [Grey(rng.integers(0, 255, shape).astype(np.uint8), 1.0) for _ in range(T)]
    there = people()
    there[..., :2] *= np.array(shape[::-1]) / (640, 360)
    assert not Meter(FPS).measure(0, there, strip).any()
    wide = [Grey(rng.integers(0, 255, (32, 480)).astype(np.uint8), 1.0) for _ in range(T)]
    there = people()
    there[..., :2] *= np.array([480, 32]) / (640, 360)
    found = Meter(FPS).measure(0, there, wide)
    assert found.any()
    assert np.isfinite(found).all()


def test_where_most_moves_is_found_whoever_is_seen() -> None:
    """One person is seen, on the left; on the right moves what nobody is seen to be."""
    shown, seen = pictures((1, 5)), people()[:1]
    found = Meter(FPS).measure(0, seen, shown)
    own, scene = numbers(found), numbers(found, scene=True)
    assert own["speed"][0, :-1] == pytest.approx(100 * FPS / SIZE, rel=0.3)
    assert scene["drift"][0, :-1] == pytest.approx(100 * 5 * FPS / SIZE, rel=0.2)
    assert (found[0, :-1, OF_PERSON:, 2] == 1).all()
    assert not found[:, -1].any()
    alone = numbers(Meter(FPS).measure(0, people(), shown, alone=True), scene=True)
    assert alone["drift"][0, :-1] == pytest.approx(100 * FPS / SIZE, rel=0.3), "near this person it is this person"
    assert alone["drift"][1, :-1] == pytest.approx(100 * 5 * FPS / SIZE, rel=0.2)


def test_who_is_not_seen_has_no_flow_and_nobody_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, seen = pictures((1, 5)), people()
    seen[1] = 0
    found = Meter(FPS).measure(0, seen, shown)
    assert found[0].any()
    assert not found[1].any()
    meter = Meter(FPS)
    monkeypatch.setattr(meter, "_compute", lambda *_: pytest.fail("nobody is seen"))
    assert not meter.measure(0, np.zeros_like(seen), shown).any()


def test_a_step_over_two_frames_is_half_as_fast() -> None:
    flow, change = np.ones((4, 4, 2), np.float32), np.zeros((4, 4), np.uint8)
    one, two = _Move(0, FPS, flow, change), _Move(0, FPS / 2, 2 * flow, change)
    np.testing.assert_allclose(one.steps(20), two.steps(20))


def test_what_goes_on_moving_counts_more_than_one_fast_step() -> None:
    shown = pictures((0, 3), frames=12)
    shown[6] = pictures((4, 3), frames=12)[6]  # the left patch is away and back: two fast steps, farther than the other
    scene = numbers(Meter(FPS).measure(0, people(12), shown), scene=True)
    assert scene["drift"][0, :-1] == pytest.approx(100 * 3 * FPS / SIZE, rel=0.3)
