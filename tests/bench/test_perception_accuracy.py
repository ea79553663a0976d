"""The benchmark's metrics on scenes whose values are known by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from posewatch.bench.perception.accuracy import compare, rates, summary, switches
from posewatch.cli.main import main
from posewatch.footage.truth import Truth
from posewatch.records import Detections


@pytest.fixture
def truth() -> Truth:
    """One person of 40 x 80 pixels for two frames, joints spread over the box, all in sight."""
    masks = np.zeros((2, 1, 120, 160), bool)
    masks[:, 0, 20:100, 60:100] = True
    boxes = np.broadcast_to(np.array([60, 20, 100, 100], np.float32), (2, 1, 4)).copy()
    one = np.stack([np.linspace(60, 100, 17), np.linspace(20, 100, 17), np.ones(17)], -1).astype(np.float32)
    one[[5, 6, 11, 12], :2] = [[65, 40], [95, 40], [70, 70], [90, 70]]
    return Truth(masks, boxes, np.broadcast_to(one, (2, 1, 17, 3)).copy(), 10)


def found(truth: Truth, shift: float = 0.0, track_id: int = 4) -> Detections:
    points = truth.keypoints[0].copy()
    points[..., 0] += shift
    return Detections(truth.boxes[0] + [shift, 0, shift, 0], np.ones(1, np.float32), points, np.array([track_id]))


def test_a_perfect_answer_is_perfect(truth: Truth) -> None:
    mask = truth.masks[0]
    rows, picture = compare(0, truth, found(truth), mask, mask[0])
    assert picture is not None
    assert (picture.iou, picture.leaked) == (1, 0)
    metrics = summary(rows, [picture], 0)
    assert {
        metrics[k] for k in ("mask_iou", "person_iou", "covered", "pck_0.2_box", "pck_0.2_torso", "oks", "detected")
    } == {1}


def test_masks_leaks_and_joints_are_counted(truth: Truth) -> None:
    shown = np.zeros((120, 160), bool)
    shown[20:100, 60:120] = True  # half as much again
    rows, picture = compare(0, truth, found(truth, 10), shown[None], shown)
    assert picture is not None
    assert picture.iou == pytest.approx(2 / 3)
    assert picture.leaked == pytest.approx(80 * 20 / (120 * 160 - 80 * 40))
    (row,) = rows
    assert (row.near, row.near_torso, row.joints) == (17, 0, 17)  # 10 px: under 0.2 x 80, over 0.2 x the torso's 39
    assert row.shown == 1
    assert 0 < row.oks < 0.6


def test_who_is_not_found_counts_against_it(truth: Truth) -> None:
    rows, picture = compare(0, truth, Detections.none(17), np.zeros((0, 120, 160), bool), np.zeros((120, 160), bool))
    assert picture is not None
    metrics = summary(rows, [picture], 0)
    assert (metrics["detected"], metrics["pck_0.2_box"], metrics["mask_iou"], metrics["person_iou"]) == (0, 0, 0, 0)
    assert compare(1, Truth(truth.masks & False, truth.boxes, truth.keypoints, 10), found(truth))[1] is None


def test_a_track_id_that_changes_is_a_switch(truth: Truth) -> None:
    rows = [compare(t, truth, found(truth, track_id=n))[0][0] for t, n in ((0, 4), (1, 4), (0, 7), (1, 7), (0, 4))]
    assert switches(rows) == 2
    assert rates(rows, [r.height for r in rows], (0, 50, 100, 200)) == [
        {"from": 50, "to": 100, "persons": 5, "detected": 1.0}
    ]


@pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")
def test_the_quality_report_is_written_whole(real_networks: None, tmp_path: Path) -> None:
    pytest.importorskip("pybullet", reason="needs the extra footage")
    assert (
        main(["bench", "quality", "--out", str(tmp_path), "--videos", "1", "--seconds", "2", "--set", "mask.fps=5"])
        == 0
    )
    report = json.loads((tmp_path / "quality.json").read_text())
    assert report["figures"]["mask_iou"] > 0.75
    assert report["goals"]["mask_iou"]["goal"] == 0.80
    page = (tmp_path / "quality.html").read_text()
    assert "data:image/png" in page
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".part")]


def test_the_speed_report_adds_up(real_networks: None, make, tmp_path: Path) -> None:
    source = make(seconds=2, fps=10)
    assert main(["bench", "perception", str(source), "--out", str(tmp_path), "--loops", "0"]) == 0
    report = json.loads((tmp_path / "speed.json").read_text())
    assert report["frames"] == 20
    parts = report["cpu_ms_per_frame"]
    assert sum(parts.values()) == pytest.approx(report["total_cpu_ms_per_frame"], abs=0.1)
    networks = parts["networks of masking"] + parts["networks of skeletons"]
    assert report["beside_networks"] == pytest.approx(1 - networks / report["total_cpu_ms_per_frame"], abs=0.01)
    assert main(["bench", "perception", str(tmp_path / "none.mp4"), "--out", str(tmp_path)]) == 2
