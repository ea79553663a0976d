"""A new version against the served one: what counts as better, and in which words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from published import Bucket, dataset, version
from skeletons import clip_set

from posewatch.config import ServingConfig
from posewatch.records import Prediction
from posewatch.stages.compare import _Clips, _scores, compare, judged

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


def _clips(positives: int, others: int) -> _Clips:
    count = positives + others
    return _Clips(clip_set(count), np.arange(count) < positives, (), 0, 0.0)


def test_one_hard_clip_does_not_decide() -> None:
    """The new version is better at every recall but the highest, which one clip sets that it misses."""
    served = np.array([0.9] * 19 + [0.6] + [0.95] * 3 + [0.7] * 5 + [0.1] * 12)
    new = np.array([0.9] * 19 + [0.2] + [0.3] * 10 + [0.1] * 10)
    told = judged(_clips(20, 20), served, 0.5, new, 0.5)
    before, after = told["before"], told["after"]
    assert after["equal_false_positives"] == 10 > before["equal_false_positives"] == 8
    # of the recalls from 80 to 100 %, in steps of a clip: 3 at four of them and 8 at the last; 0 and 10
    assert (before["mean_false_positives"], after["mean_false_positives"]) == (4.0, 2.0)
    assert told["better"] is True, told["reason"]
    assert (
        "has 4 false positives, the new one 2 on 40 held-out clips in the mean over recalls of 80% to 100%"
        in told["reason"]
    )


@pytest.mark.parametrize(
    ("positives", "missed", "better"), [(20, 1, True), (20, 2, False), (9, 1, False), (100, 2, True)]
)
def test_recall_may_be_lower_by_two_points_or_by_one_clip_of_many(positives: int, missed: int, better: bool) -> None:
    served = np.array([0.9] * positives + [0.95] * 4)
    new = np.array([0.9] * (positives - missed) + [0.4] * missed + [0.1] * 4)
    told = judged(_clips(positives, 4), served, 0.5, new, 0.5)
    assert told["better"] is better, told["reason"]
    assert ("at its own threshold" in told["reason"]) is not better


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


@pytest.mark.parametrize("by", ["presence", "contact"])
def test_both_see_the_people_that_they_were_trained_on(by: str) -> None:
    clips = clip_set(2, people=1)
    near = clips.keypoints[0].copy()
    far = np.repeat(near[:, :1], near.shape[1], 1)  # seen always, still, and away from others
    near[:, ::3] = 0
    crowd = np.concatenate([far + np.float32([4000, 0, 0]), far + np.float32([9000, 0, 0]), near, near])
    crowd[3, ..., 0] += 20 * (near[0, ..., 2] > 0)
    asked: list[np.ndarray] = []

    class Model:
        labels, positive, frames, people, joints, flow, people_by = ("normal", "abnormal"), "abnormal", 8, 2, 17, 0, by

        def predict(self, keypoints: np.ndarray) -> Prediction:
            asked.append(keypoints)
            return Prediction(np.full((len(keypoints), 2), 0.5, np.float32), self.labels)

    assert _scores(Model(), replace(clips, keypoints=(crowd, crowd))).tolist() == [0.5, 0.5]  # type: ignore[arg-type]
    shown = (asked[0][0, ..., 0].max((1, 2)) > 3000).tolist()
    assert shown == ([True, True] if by == "presence" else [False, False])
