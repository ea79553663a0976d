from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doubles import FixedNetwork
from pictures import square

from posewatch import video
from posewatch.config import MaskConfig, PoseConfig
from posewatch.errors import ConfigError, InputError
from posewatch.perception.draw import overlay
from posewatch.perception.masking import mask_video
from posewatch.perception.networks import build_estimator, weights_of
from posewatch.perception.skeletons import estimate_video, follow, skeleton
from posewatch.perception.storage import read_detections
from posewatch.perception.tracking.identities import track
from posewatch.records import Detections


def people(*at: float | None, score: float = 0.8) -> Detections:
    """Persons of 40 x 80 pixels with their left edges at the given x; None is nobody."""
    found = [x for x in at if x is not None]
    if not found:
        return Detections.none(17)
    boxes = np.array([[x, 20, x + 40, 100] for x in found], np.float32)
    points = np.stack([np.linspace([x, 20, score], [x + 40, 100, score], 17, dtype=np.float32) for x in found])
    return Detections(boxes, np.full(len(found), score, np.float32), points)


def test_two_people_keep_their_places_whatever_the_order_of_the_detector() -> None:
    frames = [people(10 + 3 * t, 200 - 3 * t) if t % 2 else people(200 - 3 * t, 10 + 3 * t) for t in range(12)]
    k = track(frames, 2, hold=3)
    assert k.shape == (2, 12, 17, 3)
    assert k.dtype == np.float32
    steps = np.diff(k[:, :, 0, 0], axis=1)
    assert {round(float(s)) for s in steps.ravel()} == {3, -3}
    assert len({float(np.sign(s)) for s in steps[0]}) == 1


def test_short_gaps_are_filled_with_a_lower_score_and_long_ones_are_not() -> None:
    frames = [people(None if t in (4, 5, 6) or 12 <= t < 20 else 10 + 2 * t) for t in range(25)]
    k = track(frames, 1, hold=3)[0]
    assert k[4:7, 0, 0] == pytest.approx([18, 20, 22])
    assert k[4:7, 0, 2] == pytest.approx(0.4)
    assert (k[12:20] == 0).all()
    assert (k[20:, :, 2] > 0).all()


def test_the_most_present_come_first_and_a_flicker_is_nobody() -> None:
    frames = [people(*(x for x in (10 if t < 9 else None, 150, 300 if t == 5 else None))) for t in range(20)]
    k = track(frames, 3, hold=2)
    assert k[0, 0, 0, 0] == 150
    assert k[1, 0, 0, 0] == 10
    assert (k[2] == 0).all()
    assert (track(frames, 1, hold=2)[0, :, 0, 0] == 150).all()


def test_one_person_who_was_lost_for_long_does_not_become_two() -> None:
    frames = [people(None if 5 <= t < 15 else 10 + t) for t in range(25)]
    k = track(frames, 2, hold=3)
    assert (k[0, :, 0, 2] > 0).sum() == 15
    assert (k[1] == 0).all()


def test_nobody_and_odd_values_give_a_clean_array() -> None:
    assert (track([Detections.none(17)] * 6, 2, hold=3) == 0).all()
    odd = people(10, score=1.0)
    assert odd.keypoints is not None
    odd.keypoints[0, 3] = np.nan
    odd.keypoints[0, 4, 2] = 1.7
    k = track([odd] * 4, 2, hold=3)
    assert np.isfinite(k).all()
    assert k[..., 2].max() <= 1
    made = skeleton([odd] * 4, PoseConfig(), 10, 160, 120)
    assert made.keypoints.shape == (2, 4, 17, 3)
    assert made.persons == 1


def test_a_video_gives_one_entry_per_frame(make) -> None:
    source = make(seconds=2, fps=10)
    frames = follow(estimate_video(source, PoseConfig(), estimator=FixedNetwork(square)), PoseConfig())
    assert len(frames) == 20
    k = skeleton(frames, PoseConfig(), 10, 160, 120).keypoints
    assert np.diff(k[0, :, 0, 0]) == pytest.approx(4, abs=2)
    with pytest.raises(ConfigError, match="masked, raw"):
        PoseConfig(source="half")
    with pytest.raises(ConfigError, match="max_people"):
        PoseConfig(max_people=0)
    with pytest.raises(ConfigError, match="movenet"):
        build_estimator(PoseConfig(estimator="openpose"))
    assert weights_of(PoseConfig())["movenet"]["licence"] == "Apache-2.0"


def test_overlay_draws_each_person_in_a_colour_of_its_own() -> None:
    image = np.zeros((120, 300, 3), np.uint8)
    points = people(10, 200).keypoints
    assert points is not None
    drawn = overlay(image, points)
    assert image.max() == 0
    left, right = drawn[:, :80].reshape(-1, 3).max(0), drawn[:, 190:].reshape(-1, 3).max(0)
    assert left.any()
    assert right.any()
    assert tuple(left) != tuple(right)
    assert overlay(image, np.zeros((2, 17, 3), np.float32)).max() == 0
    with pytest.raises(InputError, match="COCO-17"):
        overlay(image, np.zeros((1, 5, 3), np.float32))


def test_real_video_masked_and_posed_twice_gives_the_same_bytes(
    real_networks: None, walk: Path, tmp_path: Path
) -> None:
    part = tmp_path / "part.mp4"
    frames = list(video.read(walk, 5, 480, start_s=1.6, end_s=4.6))
    with video.Writer(part, 5, frames[0].image.shape[1::-1]) as writer:
        for frame in frames:
            writer.write(frame.image)
    results = []
    for name in "ab":
        out = tmp_path / name / "masked.mp4"
        mask_video(part, out, MaskConfig(fps=5, max_side=480))
        found = follow(estimate_video(out, PoseConfig()), PoseConfig())
        k = skeleton(found, PoseConfig(), 5, 480, 270).keypoints
        results.append((out.read_bytes(), out.with_name("detections.npz").read_bytes(), k.tobytes()))
    assert results[0] == results[1]
    present = (k[..., 2].max(-1) > 0).sum(1)
    assert present[0] >= 13  # the woman who walks is there from beginning to end
    x = k[0, :, [11, 12], 0].mean(0)
    assert x[2] - x[-2] > 100  # from right to left
    stored = read_detections(out.with_name("detections.npz"))
    raw = skeleton(stored, PoseConfig(source="raw"), 5, 480, 270)
    both = (k[0, :, :, 2] > 0.4) & (raw.keypoints[0, :, :, 2] > 0.4)
    assert np.median(np.linalg.norm(k[0, ..., :2] - raw.keypoints[0, ..., :2], axis=-1)[both]) < 6
