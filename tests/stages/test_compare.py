"""A new version against the served one: what counts as better, and in which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from published import Bucket, dataset, version
from skeletons import clip_set

from posewatch.config import ServingConfig
from posewatch.stages.compare import _Clips, compare, judged

SERVED = [0.9, 0.6, 0.8, 0.7, 0.2, 0.1]
"""Of two positive clips and four others, two of which are judged alarms; the threshold is 0.5."""


def _held(hours: float = 2.0, positives: int = 2) -> _Clips:
    return _Clips(clip_set(6), np.arange(6) < positives, ((2,), (3,)), 3, hours)


@pytest.mark.parametrize(
    ("new", "at", "better", "says"),
    [
        ([0.8, 0.7, 0.6, 0.5, 0.1, 0.1], 0.65, True, "2 false positives, the new one 0 on 6 held-out clips"),
        (SERVED, 0.5, False, "no improvement: the served version has 2 false positives, the new one 2"),
        ([0.9, 0.3, 0.2, 0.2, 0.2, 0.8], 0.5, False, "at its own threshold the new version finds 50%"),
    ],
)  # fmt: skip
def test_better_is_fewer_false_alarms_at_equal_recall(new: list[float], at: float, better: bool, says: str) -> None:
    told = judged(_held(), np.array(SERVED), 0.5, np.array(new), at)
    assert told["better"] is better
    assert says in told["reason"]
    assert told["before"]["false_alarms"] == 2
    assert told["false_alarms_per_camera_hour"][0] == 1.0


def test_the_rate_of_the_newest_alarms_is_told_and_nothing_is_made_up_without_them() -> None:
    new = np.array([0.8, 0.7, 0.6, 0.5, 0.1, 0.1])
    told = judged(_held(), np.array(SERVED), 0.5, new, 0.65)
    assert "of the newest alarms 1.00 false ones per camera-hour, the new one 0.00" in told["reason"]
    told = judged(_held(hours=0.0), np.array(SERVED), 0.5, new, 0.65)
    assert told["false_alarms_per_camera_hour"] is None
    assert "camera-hour" not in told["reason"]
    assert judged(_held(positives=0), np.array(SERVED), 0.5, new, 0.65)["better"] is False


def test_two_published_versions_are_compared_on_the_test_part(tmp_path: Path) -> None:
    store = Bucket(tmp_path / "store")
    served, new = (version(store, seed, ServingConfig()).model for seed in (1, 2))
    made = compare(store, new, served, dataset(store))
    told = made.json("comparison.json")
    assert (told["clips"], told["newest_alarms"]) == (12, 0)
    assert told["model"] == new.uri
    assert compare(store, new, served, dataset(store)).uri == made.uri
