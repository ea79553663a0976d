import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from posewatch.errors import ConfigError, InputError, LabelError
from posewatch.recognition.dataset import ClipSet, read_pyskl, resample, split_by_group, write_pyskl

SKELETONS = Path(__file__).resolve().parents[2].parent / "shared/data/skeletons"


def test_resample_is_uniform_pads_people_and_keeps_missing_joints_out():
    clip = np.ones((1, 3, 17, 3), np.float32)
    clip[0, :, :, 0] = np.array([0, 10, 20])[:, None]
    clip[0, 1, 4] = 0
    out = resample([clip], 5, 2)
    assert out.shape == (1, 2, 5, 17, 3)
    assert out[0, 0, :, 0, 0].tolist() == [0, 5, 10, 15, 20]
    assert (out[0, 1] == 0).all()
    assert out[0, 0, 2, 4].tolist() == [0, 0, 0]
    assert {0.0, 20.0} >= set(out[0, 0, [0, 4], 4, 0].tolist())
    assert resample([], 5, 2).shape[0] == 0


def test_of_too_many_people_the_most_present_stay():
    clip = np.zeros((3, 4, 17, 3), np.float32)
    clip[0, :1], clip[1], clip[2, :3] = 1, 2, 3
    assert resample([clip], 4, 2)[0, :, 0, 0, 0].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": np.array([0, 2])}, LabelError, "label 2 is none of the 2 classes"),
        ({"classes": ("a",)}, LabelError, "at least two different classes"),
        ({"ids": ("a",)}, InputError, "as many labels"),
        ({"keypoints": (np.zeros((1, 3, 17, 2), np.float32),) * 2}, InputError, "must be"),
        ({"keypoints": (np.zeros((1, 0, 17, 3), np.float32),) * 2}, InputError, "a person and a frame"),
        ({"keypoints": (np.full((1, 3, 17, 3), np.nan, np.float32),) * 2}, InputError, "NaN"),
    ],
)
def test_clip_set_refuses(change, error, message):
    good = {
        "keypoints": (np.ones((1, 3, 17, 3), np.float32),) * 2,
        "labels": np.array([0, 1]),
        "classes": ("normal", "abnormal"),
        "ids": ("a", "b"),
        "groups": ("u", "v"),
    }
    assert len(ClipSet(**good)) == 2
    with pytest.raises(error, match=message):
        ClipSet(**good | change)


def test_pyskl_there_and_back(tmp_path, clips):
    made = clips(4, people=2)
    write_pyskl(tmp_path / "a.pkl", made, {"train": [0, 1], "test": [2, 3]})
    read, splits = read_pyskl(tmp_path / "a.pkl", groups=dict(zip(made.ids, made.groups, strict=True)))
    assert splits == {"train": [0, 1], "test": [2, 3]}
    assert (read.classes, read.ids, read.groups, read.fps) == (made.classes, made.ids, made.groups, made.fps)
    for a, b in zip(read.keypoints, made.keypoints, strict=True):
        assert np.array_equal(a, b)
    write_pyskl(tmp_path / "b.pkl", made, {"train": [0, 1], "test": [2, 3]})
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "b.pkl").read_bytes()


@pytest.mark.skipif(not SKELETONS.is_dir(), reason=f"no skeletons at {SKELETONS}")
def test_pyskl_from_elsewhere():
    clips, splits = read_pyskl(SKELETONS / "sbu_violence_coco17.pkl")
    assert len(clips) == 282
    assert clips.classes == ("normal", "violence")
    assert {k: len(v) for k, v in splits.items()} == {"train": 105, "test": 73}
    assert len({k.tobytes() for k in clips.keypoints}) == 282, "a set of identical skeletons teaches nothing"


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_hostile_pickle_does_not_run(tmp_path):
    target = tmp_path / "ran"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"annotations": [Evil(target)]}))
    with pytest.raises(InputError, match=r"not a safe pickle: it wants to load posix\.system") as caught:
        read_pyskl(tmp_path / "evil.pkl")
    assert not target.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", pickle.dumps([1]), pickle.dumps({"annotations": [{}], "split": {}})]
)
def test_broken_pickle(tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.pkl is not"):
        read_pyskl(tmp_path / "x.pkl")


def test_numpy_loaders_that_open_files_are_refused(tmp_path):
    (tmp_path / "x.pkl").write_bytes(b"cnumpy\nfromfile\n(Vsecret\ntR.")
    with pytest.raises(InputError, match=r"numpy\.fromfile"):
        read_pyskl(tmp_path / "x.pkl")


def sides(groups, parts):
    return {g: {int(p) for h, p in zip(groups, parts, strict=True) if h == g} for g in set(groups)}


def test_split_keeps_groups_together_and_classes_balanced():
    rng = np.random.default_rng(1)
    groups = [f"video{i // 5}" for i in range(200)]
    labels = (rng.random(200) < 0.25).astype(int)
    parts = split_by_group(labels, groups, 0.2, 0.3, seed=3)
    assert all(len(s) == 1 for s in sides(groups, parts).values())
    assert np.array_equal(parts, split_by_group(labels, groups, 0.2, 0.3, seed=3))
    for part, share in ((0, 0.5), (1, 0.2), (2, 0.3)):
        assert (parts == part).mean() == pytest.approx(share, abs=0.04)
        assert labels[parts == part].mean() == pytest.approx(labels.mean(), abs=0.05)


def test_split_of_few_videos_serves_training_and_test_first():
    labels, groups = np.array([0, 1, 0, 1]), ["a", "a", "b", "b"]
    parts = split_by_group(labels, groups)
    assert sorted(parts[[0, 2]].tolist()) == [0, 2]
    three = split_by_group(np.array([0, 1] * 3), ["a", "a", "b", "b", "c", "c"])
    assert sorted(three[::2].tolist()) == [0, 1, 2]
    # One class per video, three videos each: every part gets both.
    mixed = split_by_group(np.array([0, 0, 0, 1, 1, 1]), list("abcdef"))
    assert sorted(mixed[:3].tolist()) == sorted(mixed[3:].tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        ([0, 0, 0, 1], "abcd", "class 'abnormal' has 1 clip; label at least 2"),
        ([0, 0, 0, 0], "abcd", "class 'abnormal' has no clip"),
        ([0, 0, 1, 1], "abcc", r"all 2 clips of class 'abnormal' come from one video \(c\)"),
    ],
)
def test_split_that_cannot_be(labels, groups, message):
    with pytest.raises(LabelError, match=message):
        split_by_group(np.array(labels), list(groups), classes=("normal", "abnormal"))


def test_split_shares_must_leave_something():
    with pytest.raises(ConfigError, match="leave a share"):
        split_by_group(np.array([0, 1]), ["a", "b"], 0.5, 0.5)
