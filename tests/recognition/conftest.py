from __future__ import annotations

import dataclasses

import pytest
from skeletons import clip_set

from posewatch.datasets.pyskl import write_pyskl


@pytest.fixture(scope="session")
def clips():
    return clip_set


@pytest.fixture
def annotations(tmp_path, clips):
    """20 clips to train on and 8 to test, of people who are not on both sides."""
    names = tuple(f"s{i // 4:02d}_clip_{i}" for i in range(28))
    made = dataclasses.replace(clips(28), ids=names, groups=tuple(n[:3] for n in names))
    path = tmp_path / "skeletons.pkl"
    write_pyskl(path, made, {"train": range(20), "test": range(20, 28), "other": range(24, 28)})
    return path
