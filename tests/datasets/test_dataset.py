import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from skeletons import walk

from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.layouts import Layout
from posewatch.datasets.pickles import read_pickle
from posewatch.datasets.pyskl import read_pyskl, write_pyskl
from posewatch.datasets.split import split_by_group
from posewatch.errors import InputError, LabelError
from posewatch.recognition.sampling import chosen_people, resample

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


def test_of_a_crowd_those_in_contact_are_taken():
    """Two who stand apart are seen in every frame, two who hit each other are lost now and then."""
    clip = walk(0, False, 20, people=5)
    places = (100, 400, 440, 900, 0)
    for person, x in enumerate(places):
        clip[person, ..., :2] += (x, 200) - clip[person, ..., :2].mean((0, 1))
    clip[1:3, ::4] = 0
    clip[4] = 0
    assert chosen_people(clip, 2).tolist() == [0, 3]
    assert chosen_people(clip, 2, "contact").tolist() == [1, 2]
    assert chosen_people(clip, 3, "contact").tolist() == [0, 1, 2]
    assert chosen_people(clip, 1, "contact").tolist() == [0]
    assert chosen_people(clip[[0, 4, 4]], 2, "contact").tolist() == [0, 1]
    # somebody farther off who moves has more to do with it than a sleeper next to whom somebody sits
    still = clip[:4].copy()
    still[:2] = still[:2, 5:6]
    still[1, ..., :2] += (150, 200) - still[1, ..., :2].mean((0, 1))
    still[3, ..., 0] -= 400
    assert chosen_people(still, 2, "contact").tolist() == [2, 3]
    np.testing.assert_array_equal(resample([clip], 20, 2, "contact")[0], clip[1:3])


@pytest.mark.parametrize("scale", [1.0, 1 / 640, 0.005])
def test_those_in_contact_are_the_same_in_any_unit(scale: float) -> None:
    """Pixels, shares of the picture, metres: two stand apart and are always seen, two fight for a part of the time."""
    clip = np.stack([walk(7, False, 30, people=1)[0] for _ in range(4)])
    for person, x in zip(clip, (0, 540, 240, 310), strict=True):
        person[..., 0] += x - clip[0, 0, 0, 0]
    clip[:2] = clip[:2, :1]
    clip[2:, :, 9:11, :2] += 40 * np.sin(np.arange(30))[:, None, None]
    clip[2:, :14] = 0
    clip[..., :2] *= np.float32(scale)
    assert chosen_people(clip, 2, "contact").tolist() == [2, 3]


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


class Calls:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "argument", "named"),
    [
        (os.system, "touch {}", "posix.system"),
        (eval, "open('{}', 'w')", "eval"),
        (exec, "open('{}', 'w')", "exec"),
        (np.save, "{}", "numpy.*save"),
        (np.testing.rundocs, "{}", "rundocs"),
        (np.ndarray, (1 << 40,), r"numpy\.ndarray"),
    ],
)
def test_a_pickle_that_calls_something_is_refused_without_a_call(tmp_path, protocol, function, argument, named):
    target = tmp_path / "ran"
    argument = argument.format(target) if isinstance(argument, str) else argument
    hostile = Calls(function, argument, 1) if function is np.save else Calls(function, argument)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"annotations": [hostile]}, protocol))
    with pytest.raises(InputError, match=rf"evil\.pkl is not a safe pickle: it loads .*{named}") as caught:
        read_pyskl(tmp_path / "evil.pkl")
    assert not target.exists()
    assert "\n" not in str(caught.value)


ARRAY = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR(K\x01"
DTYPE = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4tR"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty or truncated"),
        (pickle.dumps({"annotations": [np.ones(99)]})[:-200], "truncated"),
        (b"no pickle", "of skeletons: it is corrupt"),
        (b"cnumpy\nfromfile\n(Vsecret\ntR.", r"numpy\.fromfile"),
        # Nine bytes that make the standard library's C unpickler fill gigabytes with an empty memo.
        (b"\x80\x04Nr\xff\xff\xff\x0f.", "no list of annotations"),
        (b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"x.", "truncated"),
        (b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"x.", "truncated"),
        (b"\x80\x03" + ARRAY + b"J\xff\xff\xff\x7f\x85" + DTYPE + b"\x89C\x04aaaatb.", "claims shape"),
        (b"\x80\x03" + ARRAY + b"J\xff\xff\xff\xff\x85" + DTYPE + b"\x89C\x04aaaatb.", "impossible shape"),
        (b"\x80\x03cnumpy\ndtype\n(X\x01\x00\x00\x00OtR.", "dtype 'O'"),
        (b"\x80\x03cnumpy._core.multiarray\n_reconstruct\nN}X\x01\x00\x00\x00aK\x01s\x86b.", "changes a function"),
        (pickle.dumps(np.array([{}], object)), "dtype 'O"),
        (pickle.dumps(np.zeros(1, "f4,i4")), "dtype 'V"),
    ],
)  # fmt: skip
def test_a_broken_pickle_is_one_line(tmp_path, content, message):
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.pkl is not.*({message})") as caught:
        read_pyskl(tmp_path / "x.pkl")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", range(6))
def test_all_that_numpy_writes_is_read(tmp_path, protocol):
    given = [
        *(np.ones((2, 3), "f2"), np.asfortranarray(np.arange(6).reshape(2, 3)), np.arange(12).reshape(3, 4)[:, ::2]),
        *(np.array(["ab", "c"]), np.array([b"ab"]), np.arange(4, dtype=">i4"), np.array([True]), np.zeros((0, 3))),
        *(np.float32(3), np.int64(-2), np.bool_(True), 1, 2.5, "x", None, b"zz", (1, [2])),
    ]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": given}, protocol))
    read = read_pickle(tmp_path / "x.pkl")["a"]
    assert len(read) == len(given)
    for got, want in zip(read, given, strict=True):
        assert np.array_equal(got, want) if isinstance(want, np.ndarray) else got == want
        assert getattr(got, "shape", None) == getattr(want, "shape", None)


def row(name, label=0, shape=(1, 8, 17), seed=0, **change):
    rng = np.random.default_rng([seed, *name.encode()])
    made = {
        "frame_dir": name,
        "label": label,
        "img_shape": (480, 640),
        "total_frames": shape[1],
        "keypoint": rng.uniform(10, 400, (*shape, 2)).astype(np.float16),
        "keypoint_score": rng.uniform(0.1, 1, shape).astype(np.float16),
        **change,
    }
    return {key: value for key, value in made.items() if value is not None}


def written(tmp_path, rows, split=None, **about):
    data = {"split": split or {}, "annotations": rows, **about}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(data, 2))
    return tmp_path / "x.pkl"


def holed(value, score=None):
    made = row("a1")
    made["keypoint"][0, 3, 5] = value
    if score is not None:
        made["keypoint_score"][0, 3, 5] = score
    return made


SOME = [row(f"c{i}", i % 2) for i in range(3)]


@pytest.mark.parametrize(
    ("rows", "about", "error", "message"),
    [
        ("x", {}, InputError, "no list of annotations"),
        ([], {}, InputError, "list of annotations is empty"),
        ([{}], {}, InputError, "annotation 0 has no frame_dir"),
        ([*SOME, row("c1", seed=1)], {}, InputError, r"1 clip annotated twice: c1 \("),
        (SOME, {"split": {"train": 3}}, InputError, "split must map names to lists"),
        (SOME, {"split": {"train": ["c0", "u", "v"]}}, InputError, "names 2 clips without an annotation: u, v "),
        (SOME, {"split": {"train": ["c0", "c0"]}}, InputError, "'train' names 1 clip twice: c0"),
        ([*SOME, row("d", "kick")], {}, LabelError, "clip d: label 'kick' is not a class index"),
        ([*SOME, row("d", 0.5)], {}, LabelError, "clip d: label '0.5'"),
        ([*SOME, row("d", label=float("nan"))], {}, LabelError, "clip d: label 'nan'"),
        ([*SOME, row("d", 10**9)], {}, LabelError, "clip d: label 1000000000 is above"),
        ([*SOME, row("d", 2), row("e", 7)], {"classes": ["a", "b"]}, LabelError,
         r"2 clips .* outside the 2 classes a, b, 0 to 1: d \(label 2\), e \(label 7\) .*--classes"),
        (SOME, {"classes": "ab"}, LabelError, "classes are not a list"),
        (SOME, {"classes": ["a", " ", "b"]}, LabelError, "class 1 of 'a', ' ', 'b' has no name"),
        (SOME, {"classes": ["a", "A", "b"]}, LabelError, "two classes are named 'a' but for upper and lower case"),
        ([*SOME, row("d", keypoint=None)], {}, InputError, "clip d has no keypoint"),
        ([*SOME, row("d", keypoint="x")], {}, InputError, "clip d: .* not numbers"),
        ([*SOME, row("d", keypoint=np.ones((8, 17, 2)))], {}, InputError, r"clip d: keypoint must be .* \(8, 17, 2\)"),
        ([*SOME, row("d", keypoint_score=np.ones((1, 8, 16)))], {}, InputError, r"clip d: keypoint_score must be"),
        ([*SOME, row("d", total_frames=9)], {}, InputError, "clip d: total_frames is 9, but its keypoints have 8"),
        ([*SOME, row("d", shape=(1, 8, 18))], {}, InputError, r"1 clip with another number of joints .*: d \(18\)"),
        ([row("d", shape=(1, 8, 12)), row("e", 1, (1, 8, 12))], {}, InputError, "12 joints, .* --layout FILE.yaml"),
        (SOME, {"layout": "mine"}, InputError, "joint layout 'mine' is unknown: known: coco17.*--layout FILE.yaml"),
        (SOME, {"layout": "ntu25"}, InputError, "have 17 joints, layout 'ntu25' wants 25"),
        (SOME, {"fps": "fast"}, InputError, "fps is 'fast'"),
        ([*SOME, holed(np.nan)], {}, InputError, r"clip a1: 1 keypoint NaN .*, the first in frame 3 \(.*0"),
        ([*SOME, holed(np.inf)], {}, InputError, "clip a1: 1 keypoint NaN"),
        ([*SOME, holed(1, np.nan)], {}, InputError, "clip a1: 1 keypoint NaN"),
        ([*SOME, row("n", keypoint_score=np.zeros((1, 8, 17))), row("m", shape=(0, 8, 17)), row("f", shape=(1, 1, 17))],
         {}, InputError, "3 of 6 clips show nobody or have fewer than 2 frames: n, m, f .*--drop-empty"),
        ([{**SOME[0], "frame_dir": f"x{i}", "label": i % 2} for i in range(5)], {}, InputError, "the same skeleton"),
    ],
)  # fmt: skip
def test_what_a_file_may_not_say(tmp_path, rows, about, error, message):
    with pytest.raises(error, match=message) as caught:
        read_pyskl(written(tmp_path, rows, **about))
    assert "\n" not in str(caught.value)


def test_empty_clips_are_left_out_where_that_is_asked_for(tmp_path):
    rows = [*SOME, row("n", keypoint_score=np.zeros((1, 8, 17))), row("f", shape=(1, 1, 17))]
    path = written(tmp_path, rows, {"train": ["c0", "n", "c2"], "test": ["f", "c1"]})
    clips, splits = read_pyskl(path, drop_empty=True)
    assert clips.ids == ("c0", "c1", "c2")
    assert splits == {"train": [0, 2], "test": [1]}
    assert clips.notes == ("Left out: 2 of 5 clips show nobody or have fewer than 2 frames: n, f.",)
    with pytest.raises(InputError, match="2 of 2 clips show nobody"):
        read_pyskl(written(tmp_path, rows[3:]), drop_empty=True)


def test_empty_clips_are_kept_to_be_tested_on(tmp_path):
    rows = [*SOME, row("n", keypoint_score=np.zeros((1, 8, 17))), row("m", 1, (0, 8, 17))]
    clips, splits = read_pyskl(written(tmp_path, rows, {"test": ["m", "c1", "n"]}), keep_empty=True)
    assert clips.ids == ("c0", "c1", "c2", "n", "m")
    assert splits == {"test": [4, 1, 3]}
    assert clips.seen().tolist() == [True, True, True, False, False]
    assert clips.notes == ("Tested on only: 2 of 5 clips show nobody or have fewer than 2 frames: n, m.",)


def test_missing_joints_are_zero_however_they_were_written(tmp_path):
    three = np.zeros((2, 8, 25, 3), np.float32)
    three[0] = np.random.default_rng(0).normal(0, 1, (8, 25, 3))
    three[0, 2, 7] = 0
    rows = [
        row("a", shape=(2, 8, 25), keypoint=three, keypoint_score=None),
        row("b", 1, (1, 8, 25), keypoint_score=np.full((1, 8, 25), 3.0)),
    ]
    clips, _ = read_pyskl(written(tmp_path, rows))
    assert clips.layout == "ntu25"
    assert np.array_equal(clips.keypoints[0][0, ..., :2], three[0, ..., :2]), "of three coordinates the first two"
    assert clips.keypoints[0][0, :, 0, 2].tolist() == [1] * 8
    assert not clips.keypoints[0][0, 2, 7].any()
    assert not clips.keypoints[0][1].any(), "a person who is padding was not seen"
    assert clips.keypoints[1][..., 2].max() == 1
    clips, _ = read_pyskl(written(tmp_path, [*SOME, holed(np.nan, 0.0)]))
    assert clips.keypoints[3][0, 3, 5].tolist() == [0, 0, 0]


def test_older_files_and_padded_ones(tmp_path):
    rows = [row("a", total_frames=5), row("b", 1, total_frames=None)]
    rows[1]["filename"] = rows[1].pop("frame_dir")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(rows))
    clips, splits = read_pyskl(tmp_path / "x.pkl")
    assert splits == {}
    assert clips.ids == ("a", "b")
    assert clips.classes == ("class_0", "class_1")
    assert (clips.fps, clips.layout) == (10.0, "coco17")
    assert [k.shape[1] for k in clips.keypoints] == [5, 8]


@pytest.mark.parametrize(("joints", "name"), [(15, "kinect15"), (18, "openpose18"), (20, "kinect20"), (25, "ntu25")])
def test_the_layout_follows_from_the_joints_unless_it_is_given(tmp_path, joints, name):
    path = written(tmp_path, [row("a", shape=(1, 8, joints)), row("b", 1, (1, 8, joints))])
    assert read_pyskl(path)[0].layout == name
    own = Layout("mine", tuple(f"j{i}" for i in range(joints)), ((1, 0),), 0, ())
    assert read_pyskl(path, layout=own)[0].layout == "mine"
    with pytest.raises(InputError, match="layout 'coco17' wants 17"):
        read_pyskl(path, layout="coco17")


def test_classes_and_splits_may_be_arrays(tmp_path):
    split = {"train": np.array(["c0", "c1"]), "test": np.array(["c2"])}
    path = written(tmp_path, SOME, split, classes=np.array(["정상", "a, b"]), fps=np.float32(15))
    clips, splits = read_pyskl(path)
    assert (clips.classes, clips.fps, splits) == (("정상", "a, b"), 15.0, {"train": [0, 1], "test": [2]})
    assert read_pyskl(path, ["a, b", "정상"])[0].labels.tolist() == [1 - k for k in clips.labels.tolist()]


def test_groups_that_names_do_not_tell_survive_a_file(tmp_path, clips):
    made = clips(6)
    made = ClipSet(made.keypoints, made.labels, made.classes, made.ids, ("a", "a", "b", "b", "c+d", "c+d"))
    write_pyskl(tmp_path / "a.pkl", made, {})
    assert read_pyskl(tmp_path / "a.pkl")[0].groups == made.groups


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
