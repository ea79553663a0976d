"""People on the ground, seen on real video: the hardest case for masks, and the one that matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posewatch import video
from posewatch.config import MaskConfig
from posewatch.perception.masking import mask_video
from posewatch.perception.storage import read_detections
from posewatch.perception.tracking.tracker import Tracker
from posewatch.records import Detections

FALLS = Path(__file__).resolve().parents[2].parent / "shared/data/video/gmdcsa24"


def fall(name: str) -> Path:
    if not (FALLS / name).is_file():
        pytest.skip("the GMDCSA24 samples are not there")
    return FALLS / name


def part(source: Path, out: Path, start_s: float, end_s: float) -> Path:
    frames = list(video.read(source, 5, 480, start_s, end_s))
    with video.Writer(out, 5, frames[0].image.shape[1::-1]) as writer:
        for frame in frames:
            writer.write(frame.image)
    return out


def shown(path: Path) -> list[np.ndarray]:
    return [f.image.max(-1) > 24 for f in video.read(path)]


def test_of_a_person_on_the_ground_only_the_person_is_shown(real_networks: None, tmp_path: Path) -> None:
    source = part(fall("Subject_1_Fall_13.mp4"), tmp_path / "part.mp4", 2, 4)
    report = mask_video(source, tmp_path / "masked.mp4", MaskConfig(fps=5, max_side=480))
    assert report.frames_with_people == report.frames == 10
    for seen, found in zip(shown(tmp_path / "masked.mp4"), read_detections(tmp_path / "detections.npz"), strict=True):
        x1, y1, x2, y2 = found.boxes[0].astype(int)
        inside = seen[y1:y2, x1:x2].mean()
        assert 0.25 < inside < 0.68  # the ellipse that stands in for a failed mask would fill 0.79
        assert seen.sum() - seen[y1:y2, x1:x2].sum() < 0.15 * seen.sum()


def test_a_dark_figure_at_the_threshold_stays_visible(real_networks: None, tmp_path: Path) -> None:
    source = fall("Subject_3_Fall_20.mp4")
    report = mask_video(source, tmp_path / "masked.mp4", MaskConfig(fps=10, max_side=480, hold=0))
    assert report.frames_with_people >= 0.95 * report.frames
    assert all(len(d) <= 1 for d in read_detections(tmp_path / "detections.npz"))


def test_a_score_that_trembles_around_the_threshold_does_not_lose_the_person() -> None:
    def person(score: float) -> Detections:
        return Detections(np.array([[10, 20, 50, 100]], np.float32), np.array([score], np.float32))

    tracker = Tracker(0.2, hold=2)
    assert [len(tracker.update(person(s))) for s in (0.17, 0.21, 0.19, 0.17, 0.22, 0.1, 0.17)] == [0, 1, 1, 1, 1, 0, 0]
