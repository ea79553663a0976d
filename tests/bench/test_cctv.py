"""The benchmark of CCTV clips: figures from counts by eye."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pictures import square

from posewatch.bench.perception import cctv
from posewatch.cli.main import main
from posewatch.config import load
from posewatch.errors import InputError

COUNTS = Path(__file__).with_name("fights_dev_counts.csv")


def bools(letters: str) -> np.ndarray:
    return np.array([letter == "y" for letter in letters])


def test_figures_are_of_the_frames_in_which_somebody_is_visible() -> None:
    pairs = [("yyyy", "yynn"), ("yyyn", "nnny"), ("nnnn", "nnyn")]
    figures = cctv.summary([(bools(visible), bools(found)) for visible, found in pairs])
    assert figures == {
        "counted_clips": 2, "clips": 1.0, "counted_frames": 7, "frames": round(2 / 7, 4),
        "empty_frames": 5, "false_frames": 2,
    }  # fmt: skip
    nobody = cctv.summary([(bools("nn"), bools("nn"))])
    assert (nobody["clips"], nobody["frames"], nobody["empty_frames"]) == (None, None, 2)


def test_the_counts_are_sixty_clips_of_twelve_frames() -> None:
    rows = cctv.counted(COUNTS)
    assert len({file for file, _ in rows}) == 60
    assert {len(visible) for _, visible in rows} == {12}
    assert sum(int(visible.sum()) for _, visible in rows) == 691
    assert cctv.looked_at(20, 12) == [0, 2, 4, 5, 7, 9, 10, 12, 14, 15, 17, 19]


def test_a_count_that_is_no_count_and_a_clip_that_is_not_there_are_named(tmp_path: Path) -> None:
    counts = tmp_path / "counts.csv"
    counts.write_text("file,visible\na.mp4,yyx\n")
    with pytest.raises(InputError, match="row 2: visible is 'yyx'"):
        cctv.counted(counts)
    counts.write_text("file,visible\na.mp4,yyn\n")
    with pytest.raises(InputError, match=r"has no a\.mp4"):
        cctv.bench_cctv(tmp_path / "out", load(), tmp_path, counts)


def test_a_clip_is_masked_posed_and_compared(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from doubles import FixedNetwork

    from posewatch.perception.networks.boxes import BoxSegmenter

    monkeypatch.setattr(cctv, "build_detector", lambda config: FixedNetwork(square))
    monkeypatch.setattr(cctv, "build_segmenter", lambda config, detector: BoxSegmenter())
    monkeypatch.setattr(cctv, "build_estimator", lambda config: FixedNetwork(square))
    source = make(seconds=2, fps=10)
    counts = tmp_path / "counts.csv"
    counts.write_text(f"file;visible\n{source.name};yyyyyn\n")
    words = ["--videos", str(source.parent), "--counts", str(counts), "--out", str(tmp_path / "out")]
    assert main(["bench", "cctv", *words]) == 0
    report = json.loads((tmp_path / "out" / "cctv.json").read_text())
    assert (report["clips"], report["frames"], report["false_frames"], report["all_frames"]) == (1.0, 1.0, 1, 20)
    assert report["goals"]["frames"]["met"]
