"""Joints that follow the pixels: a patterned sheet that moves as it is told, and joints that a network saw badly."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from posewatch.perception import steady
from posewatch.perception.pictures import Grey, over_clips
from posewatch.perception.steady import steadied

T, V, STEP = 12, 17, (3.0, 2.0)


@pytest.fixture(scope="module")
def sheet() -> np.ndarray:
    """A picture with something to hold on to everywhere, blurred as a camera's is."""
    import cv2

    rough = np.random.default_rng(0).integers(0, 255, (60, 100, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(cv2.resize(rough, (1000, 600)), (0, 0), 2), np.uint8)


def frames(sheet: np.ndarray, count: int = T) -> list[np.ndarray]:
    """(H, W, 3): everything moves by ``STEP`` pixels from frame to frame."""
    ways = [(round(100 - STEP[0] * t), round(100 - STEP[1] * t)) for t in range(count)]
    return [np.ascontiguousarray(sheet[y : y + 360, x : x + 640]) for x, y in ways]


def truth(count: int = T, people: int = 2) -> np.ndarray:
    """Keypoints (M, T, V, 3) of joints that move with the sheet."""
    rng = np.random.default_rng(1)
    first = rng.uniform(0, 120, (people, 1, V, 2)) + [[[[120, 80]]], [[[380, 120]]]][:people]
    moved = first + np.arange(count)[:, None, None] * np.array(STEP)
    return np.concatenate([moved, np.full((people, count, V, 1), 0.8)], -1, dtype=np.float32)


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.hypot(*np.moveaxis(a[..., :2] - b[..., :2], -1, 0)).mean())


def test_joints_jump_less_and_move_as_the_picture_does(sheet: np.ndarray) -> None:
    right = truth()
    seen = right.copy()
    seen[..., :2] += np.random.default_rng(2).normal(0, 4, seen[..., :2].shape)
    pictures = [Grey.of(image) for image in frames(sheet)]
    assert pictures[0].pixels.shape == (270, 480), "no larger than is needed"
    found = steadied(seen, pictures)
    assert found.shape == seen.shape
    assert found.dtype == np.float32
    assert error(found, right) < 0.6 * error(seen, right)
    assert error(np.diff(found, axis=1), np.diff(right, axis=1)) < 0.4 * error(
        np.diff(seen, axis=1), np.diff(right, axis=1)
    )
    np.testing.assert_allclose(found[..., 2], 0.8)


def test_a_joint_that_was_not_detected_is_where_its_pixels_are_and_fades(sheet: np.ndarray) -> None:
    right = truth()
    seen = right.copy()
    seen[0, 4:7, 9] = 0  # for three frames a wrist is gone
    seen[1, 6:] = 0  # the second person is not seen again
    found = steadied(seen, [Grey.of(image) for image in frames(sheet)])
    assert error(found[0, 4:7, 9], right[0, 4:7, 9]) < 1
    fade = steady.FADE
    np.testing.assert_allclose(found[0, 4:7, 9, 2], [0.8 * fade, 0.8 * fade**2, 0.8 * fade], rtol=1e-5)
    assert error(found[1, 6:8], right[1, 6:8]) < 1
    assert found[1, 6, 0, 2] > found[1, 7, 0, 2] > found[1, 11, 0, 2] > 0
    longer = np.concatenate([seen, np.zeros((2, 18, V, 3), np.float32)], 1)
    gone = steadied(longer, [Grey.of(image) for image in frames(sheet, T + 18)])
    assert not gone[1, -1].any(), "not for ever"


def test_who_is_somewhere_else_was_not_followed_there(sheet: np.ndarray) -> None:
    seen = truth()
    seen[0, 6:, :, 0] += 200  # another person in this row, or a jump that no pixel made
    found = steadied(seen, [Grey.of(image) for image in frames(sheet)])
    assert error(found[0], seen[0]) < 1


def test_what_is_covered_is_not_followed(sheet: np.ndarray) -> None:
    images, seen = frames(sheet), truth(people=1)
    x, y = (seen[0, 6, :, :2].min(0) - 30).astype(int)
    other = np.random.default_rng(3).integers(0, 255, (200, 200, 3), np.uint8)
    images[6:] = [image.copy() for image in images[6:]]
    for image in images[6:]:  # somebody walks in front of the person, and neither is detected
        image[y : y + 200, x : x + 200] = other
    seen[0, 6:] = 0
    found = steadied(seen, [Grey.of(image) for image in images])
    assert (found[0, 6, :, 2] > 0).mean() < 0.2


def test_without_a_picture_joints_are_as_detected(sheet: np.ndarray) -> None:
    seen = truth()
    seen[..., :2] += np.random.default_rng(2).normal(0, 4, seen[..., :2].shape)
    np.testing.assert_allclose(steadied(seen, [None] * T), seen, rtol=1e-6)
    pictures = [Grey.of(image) if t < 6 else None for t, image in enumerate(frames(sheet))]
    found = steadied(seen, pictures)
    np.testing.assert_allclose(found[:, 7:], seen[:, 7:], rtol=1e-6)
    assert error(found[:, :6], seen[:, :6]) > 1
    nobody = np.zeros((2, T, V, 3), np.float32)
    np.testing.assert_array_equal(steadied(nobody, [Grey.of(image) for image in frames(sheet)]), nobody)


def test_clips_of_a_video_get_their_own_pictures_and_no_more_are_kept(
    sheet: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, right = frames(sheet, 30), truth(30)
    seen = right.copy()
    seen[..., :2] += np.random.default_rng(2).normal(0, 4, seen[..., :2].shape)
    clips = [
        (first, seen[:, first : first + 8]) for first in (12, 4, 8, 24)
    ]  # overlapping, in any order; the last is cut
    made: list[int] = []
    plain = Grey.of.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(Grey, "of", classmethod(lambda cls, image: made.append(0) or plain(cls, image)))
    found = over_clips(enumerate(images), clips, lambda _, *clip: steadied(*clip))
    assert len(made) == 16 + 6, "pictures of clips only"
    pictures = [plain(Grey, image) for image in images]
    for (first, keypoints), one in zip(clips, found, strict=True):
        wanted = [*pictures[first : first + 8], None, None][: keypoints.shape[1]]
        np.testing.assert_array_equal(one, steadied(keypoints, wanted))


def test_long_videos_are_not_kept(sheet: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[weakref.ref[Grey]] = []
    plain = Grey.of.__func__  # type: ignore[attr-defined]

    def of(cls, image):
        grey = plain(cls, image)
        kept.append(weakref.ref(grey))
        return grey

    monkeypatch.setattr(Grey, "of", classmethod(of))
    most = 0

    def counted():
        nonlocal most
        for number, image in enumerate(frames(sheet, 30)):
            most = max(most, sum(one() is not None for one in kept))
            yield number, image

    over_clips(counted(), [(first, truth(6)) for first in range(0, 24, 6)], lambda _, *clip: steadied(*clip))
    assert len(kept) == 24
    assert most <= 7
