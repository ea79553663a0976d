"""The ground truth fits the pictures, and the offline detector sees the figure."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from posewatch import weights
from posewatch.errors import InputError, WeightsError
from posewatch.footage import FootageVideo, read_truth


def _pictures(video: FootageVideo) -> list[np.ndarray]:
    with av.open(str(video.path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def _actions(video: FootageVideo) -> list[dict]:
    return json.loads(video.truth.with_suffix(".json").read_text())["actions"]


def test_shapes_and_tight_boxes(footage: list[FootageVideo]) -> None:
    for video in footage:
        truth = read_truth(video.truth)
        people = 1 + max(a["person"] for a in _actions(video))
        assert truth.masks.shape == (30, people, 240, 320)
        assert truth.boxes.shape == (30, people, 4)
        assert truth.keypoints.shape == (30, people, 17, 3)
        assert truth.fps == 5
        assert not (truth.masks.sum(1) > 1).any(), "a pixel belongs to one person"
        for mask, box in zip(truth.masks.reshape(-1, 240, 320), truth.boxes.reshape(-1, 4), strict=True):
            rows, columns = np.nonzero(mask)
            want = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
            np.testing.assert_array_equal(box, want)


def test_visible_joints_lie_on_the_person(footage: list[FootageVideo]) -> None:
    hit = total = 0
    for video in footage:
        truth = read_truth(video.truth)
        assert truth.keypoints[..., 2].min() >= 0
        assert truth.keypoints[..., 2].max() <= 1
        for t, p, v in np.argwhere(truth.keypoints[..., 2] > 0.9):
            x, y = truth.keypoints[t, p, v, :2].astype(int)
            near = truth.masks[t, p, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
            hit, total = hit + bool(near.any()), total + 1
    assert total > 500
    assert hit / total > 0.97


def test_masks_cut_the_figure_out_of_the_picture(footage: list[FootageVideo]) -> None:
    """Where nobody ever is, the picture stands still; inside the masks of a walking person it changes."""
    video = footage[0]
    truth, pictures = read_truth(video.truth), np.stack(_pictures(video)).astype(float)
    ever = truth.masks.any((0, 1))
    change = pictures.std(0).mean(-1)
    assert change[ever].mean() > 3 * np.median(change[~ever])


def test_who_falls_ends_on_the_floor(tmp_path: Path) -> None:
    pytest.importorskip("pybullet")
    from posewatch.footage.engine import fall
    from posewatch.footage.figure import draw_look, write_figure
    from posewatch.footage.motion import chain

    rng = np.random.default_rng(0)
    look = draw_look(rng)
    before = chain([("walk", 1.0)])
    down = fall(write_figure(look, tmp_path / "one"), look.height, before, 3.0, rng)
    assert before[:, 1].min() > 0.7
    assert np.isfinite(down).all()
    assert down[-1, 1] < 0.3, "the hips lie on the floor"
    assert np.abs(down[-1, :3] - down[-10, :3]).max() < 0.05, "and the body is at rest"


def test_walking_people_travel_and_stay_in_view() -> None:
    from posewatch.footage.motion import chain

    track = chain([("walk", 9.0)], radius=1.2)
    floor = track[:, [0, 2]]
    way = np.linalg.norm(np.diff(floor, axis=0), axis=1).sum()
    assert 6 < way < 12  # metres in nine seconds
    assert np.linalg.norm(floor, axis=1).max() < 2.4
    assert np.abs(np.diff(floor, axis=0)).max() < 0.1, "no jump where a loop starts again"


def test_the_offline_detector_sees_the_figure(footage: list[FootageVideo]) -> None:
    """At least nine of ten times that somebody is in the picture, a box of score >= 0.2 lies over that person."""
    try:
        weights.path("movenet")
    except WeightsError as error:
        pytest.skip(f"weights cannot be had here: {error}")
    from posewatch.perception.networks.movenet import MoveNet

    detector, seen, total = MoveNet(), 0, 0
    for video in footage:
        truth = read_truth(video.truth)
        for t, image in enumerate(_pictures(video)[::2]):
            found = detector.detect([image])[0]
            boxes = found.boxes[found.scores >= 0.2]
            for box in truth.boxes[2 * t]:
                total += 1
                seen += any(_overlap(box, other) > 0.3 for other in boxes)
    assert total >= 60
    assert seen / total >= 0.9


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = max(0.0, width) * max(0.0, height)
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared + 1e-9))


@pytest.mark.parametrize("content", [None, b"", b"not a truth file", b"PK\x03\x04 cut short"])
def test_a_truth_file_that_is_none_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="no ground truth in"):
        read_truth(path)
