"""Tiny real input: rendered people, made once."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def two_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short rendered videos in which something abnormal happens, with their labels.csv."""
    from posewatch.footage import make_footage

    made = tmp_path_factory.mktemp("footage")
    make_footage(made, videos=4, seconds=6.0, size=(320, 240), seed=3)
    folder = tmp_path_factory.mktemp("videos")
    rows = list(csv.DictReader((made / "labels.csv").read_text().splitlines()))
    abnormal = sorted({r["file"] for r in rows if r["label"] == "abnormal"})[:2]
    with (folder / "labels.csv").open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["file", "start_s", "end_s", "label"])
        for name in abnormal:
            shutil.copyfile(made / name, folder / name)
            # halves, so that each video holds both classes whatever the motion's timing is
            out.writerows([[name, 0, 3, "normal"], [name, 3, 6, "abnormal"]])
    return folder
