"""Four rendered videos that all tests of the footage maker share: rendering is what costs time here."""

from __future__ import annotations

from pathlib import Path

import pytest

from posewatch.footage import FootageVideo, make_footage

SETTINGS = {"seconds": 6.0, "fps": 5.0, "size": (320, 240), "seed": 3}


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> list[FootageVideo]:
    """Two normal and two abnormal videos of six seconds, made by two workers."""
    pytest.importorskip("pybullet", reason="the footage maker needs pybullet (pip install 'posewatch[footage]')")
    out: Path = tmp_path_factory.mktemp("footage")
    return make_footage(out, videos=4, workers=2, **SETTINGS)
