"""Records refuse shapes and values that the rest could not work with."""

import numpy as np
import pytest

from posewatch.errors import InputError
from posewatch.records import Clip, Detections, LabelEvent, Prediction, Skeleton, Video, clip_id, video_id


def skeleton(**change: object) -> Skeleton:
    keypoints = np.zeros((2, 5, 17, 3), np.float32)
    keypoints[0, :, :, 2] = 0.5
    return Skeleton(**{"keypoints": keypoints, "fps": 10.0, "width": 64, "height": 48, **change})  # type: ignore[arg-type]


def test_ids_follow_from_content() -> None:
    a, b = video_id("a" * 64), video_id("b" * 64)
    assert a != b
    assert clip_id(a, 0.0, 3.0) == clip_id(a, 0.0001, 3.0)
    assert len({clip_id(a, 0, 3), clip_id(a, 3, 3), clip_id(a, 0, 4), clip_id(b, 0, 3)}) == 4
    assert len({clip_id(a, 0, 3), clip_id(a, 0, 3, 1), clip_id(a, 0, 3, 2), clip_id(a, 0, 32)}) == 4


def test_clips_of_scenes_keep_their_ids_and_their_rows() -> None:
    """The id was computed with commit 81dd754, before there were clips of persons."""
    video = "v-" + "a" * 16
    clip = Clip(clip_id(video, 1.5, 3.0), video, 1.5, 3.0, 10.0, 30, 64, 48)
    assert clip.id == "c-6760645518a77d7a"
    assert "person" not in clip.to_dict()
    of_person = Clip(clip_id(video, 1.5, 3.0, 2), video, 1.5, 3.0, 10.0, 30, 64, 48, person=2)
    assert Clip(**of_person.to_dict()) == of_person
    assert of_person.to_dict()["person"] == 2


def test_persons_counts_those_ever_seen() -> None:
    assert skeleton().persons == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: skeleton(keypoints=np.zeros((5, 17, 3), np.float32)), r"\(M, T, V, 3\)"),
        (lambda: skeleton(keypoints=np.full((1, 2, 17, 3), np.nan, np.float32)), "NaN"),
        (lambda: skeleton(keypoints=np.full((1, 2, 17, 3), 2, np.float32)), r"\[0, 1\]"),
        (lambda: skeleton(keypoints=np.zeros((1, 2, 17, 3))), "float32"),
        (lambda: Detections(np.zeros((1, 4), np.float32), np.zeros(2, np.float32)), "scores must be"),
        (lambda: Prediction(np.ones((1, 2), np.float32), ("a", "b")), "sum to 1"),
        (lambda: Prediction(np.ones((1, 1), np.float32), ("a", "b")), r"\(N, 2\)"),
        (lambda: LabelEvent("c", None, "x", "me", "now", "robot"), "source"),  # type: ignore[arg-type]
        (lambda: LabelEvent("c", None, "x", "net", "now", "model"), "model_version"),
        (lambda: Clip("c-1", "v", 0, 3, 10, 30, 64, 48), "does not follow"),
        (lambda: Clip(clip_id("v", 0, 3), "v", 0, 3, 10, 30, 64, 48, person=1), "does not follow"),
        (lambda: Clip(clip_id("v", 0, 3, 0), "v", 0, 3, 10, 30, 64, 48, person=0), "person 0"),
        (lambda: Video("v-1", "a.mp4", "a" * 64, 1, 64, 48, 10, 3, 30), "does not follow"),
    ],
)
def test_wrong_records_are_refused(make: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()  # type: ignore[operator]
