"""What a second run of ``posewatch bench watch`` takes over from the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import square

from posewatch.bench import watch
from posewatch.config import load
from posewatch.datasets.intervals import Interval
from posewatch.records import Detections


class Looking:
    """Finds the white square, and counts how often it was asked."""

    def __init__(self) -> None:
        self.looks = 0

    def estimate(self, images: list[np.ndarray]) -> list[Detections]:
        self.looks += len(images)
        return [square(image) for image in images]


def test_windows_are_kept_for_the_same_file_and_labels(make, tmp_path: Path) -> None:
    path, config, folder = make(seconds=6, size=(320, 240)), load("default", watch.SETTINGS), tmp_path / "windows"
    event = [Interval(path.name, 0.0, 3.0, "abnormal")]
    first = Looking()
    windows = watch.kept_windows(folder, path, event, config, first)
    assert first.looks > 0
    assert {label for _, _, label in windows} == {0, 1}
    again = Looking()
    kept = watch.kept_windows(folder, path, event, config, again)
    assert again.looks == 0
    assert [(name, label) for name, _, label in kept] == [(name, label) for name, _, label in windows]
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(kept, windows, strict=True))
    other = Looking()
    assert {label for _, _, label in watch.kept_windows(folder, path, [], config, other)} == {0}
    assert other.looks > 0
    (tmp_path / "b.mp4").write_bytes(b"")
    with pytest.raises(Exception, match="empty file"):
        watch.kept_windows(folder, tmp_path / "b.mp4", [], config, other)
