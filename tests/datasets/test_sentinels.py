"""Numbers that other tools write for a joint that was not found."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posewatch.cli.main import main
from posewatch.datasets.pyskl import read_pyskl
from posewatch.errors import InputError


def write(path: Path, value: float | None, share: float = 0.3, scores: bool = False, **change: Any) -> Path:
    """Eight clips of one walking person, with a share of the joints at (value, value)."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(8):
        x = (300 + rng.normal(0, 30, (1, 1, 17, 2)) + rng.normal(0, 2, (1, 12, 17, 2)).cumsum(1)).astype(np.float32)
        if value is not None and i != 3:
            x = np.where(rng.random(x.shape[:3])[..., None] < share, np.float32(value), x)
        row = {"frame_dir": f"clip{i}", "label": i % 2, "keypoint": x, "total_frames": 12, "img_shape": (480, 640)}
        if scores:
            row["keypoint_score"] = np.full(x.shape[:3], 0.9, np.float32)
        rows.append({**row, **change})
    names = [str(row["frame_dir"]) for row in rows]
    path.write_bytes(pickle.dumps({"split": {"train": names[:4], "test": names[4:]}, "annotations": rows}, 4))
    return path


@pytest.mark.parametrize("value", [-1, -999, -9999.0, 1e6, 3e38])
@pytest.mark.parametrize("scores", [False, True])
def test_a_number_that_stands_for_missing_is_missing_and_told(value: float, scores: bool, tmp_path: Path) -> None:
    clips, _ = read_pyskl(write(tmp_path / "a.pkl", value, scores=scores))
    assert len(clips.notes) == 1
    assert clips.notes[0].startswith(f"Joints at ({np.float32(value):g}, {np.float32(value):g}) are read as missing, 2")
    assert "in 7 clips: clip0, clip1, clip2, clip4" in clips.notes[0]
    for i, k in enumerate(clips.keypoints):
        assert (k[..., 2] == 0).any() == (i != 3)
        assert (k[k[..., 2] == 0] == 0).all()
        assert k[..., :2].max() < 1000


def test_what_is_no_sentinel_stays(tmp_path: Path) -> None:
    assert read_pyskl(write(tmp_path / "a.pkl", None))[0].notes == ()
    clips, _ = read_pyskl(write(tmp_path / "b.pkl", 120.0))  # a place in the picture
    assert clips.notes == ()
    assert clips.keypoints[0][..., 2].all()


def test_positions_that_no_camera_sees_are_refused_with_their_clips(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pkl", None)
    data = pickle.loads(path.read_bytes())
    data["annotations"][2]["keypoint"] = data["annotations"][2]["keypoint"] * np.float32(1e30)
    path.write_bytes(pickle.dumps(data, 4))
    with pytest.raises(InputError, match="1 clip with keypoints beyond 100,000 pixels: clip2"):
        read_pyskl(path)
    assert main(["train", "--annotations", str(path), "--out", str(tmp_path / "out")]) == 2


def test_every_verb_that_reads_skeletons_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from posewatch.cli.train import Skeletons
    from posewatch.config import load
    from posewatch.inference.files import read

    path = write(tmp_path / "a.pkl", -1)
    Skeletons(annotations=path).read()
    assert "note: Joints at (-1, -1) are read as missing" in capsys.readouterr().err
    assert len(list(read(path, load(), 3.0, 3.0))) == 8
    assert "note: a.pkl: Joints at (-1, -1) are read as missing" in capsys.readouterr().err
