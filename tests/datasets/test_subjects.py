from pathlib import Path

import numpy as np
import pytest

from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.pyskl import read_pyskl
from posewatch.datasets.split import folds, hold_out, people_of
from posewatch.datasets.subjects import check_split, name_subjects, subjects_of, video_groups
from posewatch.errors import ConfigError, InputError, LabelError

SKELETONS = Path(__file__).resolve().parents[2].parent / "shared/data/skeletons"
needs_skeletons = pytest.mark.skipif(not SKELETONS.is_dir(), reason=f"no skeletons at {SKELETONS}")


@pytest.mark.parametrize(
    ("row", "pattern", "people"),
    [
        ({"frame_dir": "S001C002P003R001A050"}, None, {"P003"}),
        ({"frame_dir": "s01s02_kicking_001"}, None, {"s01", "s02"}),
        ({"frame_dir": "s01s02_kicking_001"}, r"s\d\d", {"s01", "s02"}),
        ({"frame_dir": "fall-anna-3"}, r"fall-(\w+)-", {"anna"}),
        ({"frame_dir": "fall-3"}, r"fall-(\w+)-", set()),
        ({"frame_dir": "walk_17"}, None, set()),
        ({"frame_dir": "s01s02_x", "subject": 7}, None, {"7"}),
        ({"frame_dir": "s01s02_x", "subjects": np.array([3, 1])}, "x", {"3", "1"}),
        ({"frame_dir": "x", "group": "b+a"}, None, {"a", "b"}),
        ({"frame_dir": "x", "video": "cam+2", "performer": ["cam+2"]}, None, {"cam_2"}),
    ],
)
def test_subjects_of_a_clip(row, pattern, people):
    assert subjects_of(row, pattern) == people


def named(*names, pattern=None):
    return name_subjects([{"frame_dir": name} for name in names], names, pattern)


def test_names_that_begin_alike_are_of_the_same_people_if_that_says_anything():
    assert named("v1_a", "v1_b", "v2-a", "v2-b", "v3_a").groups == ("v1", "v1", "v2", "v2", "v3_a")
    assert named("fall_a", "fall_b", "sit_a", "sit_b").groups == ("fall_a", "fall_b", "sit_a", "sit_b")
    assert named("set1_a", "set1_b").groups == ("set1_a", "set1_b")
    found = named("s01s02_a_1", "s02s01_a_1", "s02s01_b_1")
    assert found.groups == ("s01+s02",) * 3
    assert found.takes == ("s01s02", "s02s01", "s02s01")
    assert not found.certain
    by_hand = named("s01s02_a_1", "s02s01_a_1", pattern=r"s\d\d")
    assert by_hand.certain
    assert by_hand.takes == by_hand.groups == ("s01+s02",) * 2


def test_patterns_that_find_nobody_or_are_none():
    with pytest.raises(InputError, match=r"'q\+' matches none of the clips' names \(a1, b1\)"):
        named("a1", "b1", pattern="q+")
    with pytest.raises(ConfigError, match=r"'\(' is not a regular expression: missing"):
        named("a1", "b1", pattern="(")


def clips_of(groups, labels, takes=(), certain=False):
    n = len(groups)
    keypoints = tuple(np.full((1, 2, 17, 3), i + 1, np.float32) for i in range(n))
    names = tuple(f"c{i}" for i in range(n))
    classes = tuple(f"class_{k}" for k in range(max(labels) + 1))
    return ClipSet(keypoints, np.array(labels), classes, names, tuple(groups), takes=tuple(takes), certain=certain)


PAIRS = clips_of(["a+b", "a+b", "a+c", "c+d"], [0, 1, 0, 1], ["ab", "ba", "ac", "cd"])


@pytest.mark.parametrize(
    ("clips", "train", "test", "message"),
    [
        (PAIRS, [], [1], "split 'train' holds no clip"),
        (PAIRS, [0], [], "split 'test' holds no clip"),
        (PAIRS, [0, 1], [1, 2], r"1 clip both in 'train' and in 'test': c1 \("),
        (clips_of("aabb", [0, 1, 0, 1]), [0, 2], [1, 3],
         r"2 subjects or scenes, going by the clips' names, both in 'train' and in 'test': a, b .*"
         "--subject-pattern REGEX; to accept it: --allow-shared-subjects"),
        (clips_of([f"v{i // 2}" for i in range(16)], [0, 1] * 8), range(0, 16, 2), range(1, 16, 2),
         "8 subjects .*: v0, v1, v2, v3, v4 and 3 more"),
        (clips_of(PAIRS.groups, [0, 1, 0, 1], certain=True), [0], [2],
         r"1 subject both in 'train' and in 'test': a \(to accept it: --allow-shared-subjects\)"),
    ],
)  # fmt: skip
def test_splits_that_are_refused(clips, train, test, message):
    with pytest.raises(InputError, match=message) as caught:
        check_split(clips, train, test)
    assert "\n" not in str(caught.value)


def test_shared_people_are_told_where_they_are_allowed():
    found = check_split(PAIRS, [0, 1], [2, 3])
    assert (found.shared_groups, found.shared_subjects) == ((), ("a",))
    assert (found.groups_train, found.groups_test) == (2, 2)
    assert found.note == "People of 'test' are also in 'train', in other groups: a."
    assert check_split(PAIRS, [0, 1], [3]).note == ""
    assert check_split(PAIRS, [0], [1]).shared_subjects == ("a", "b"), "reversed pairs pass, but are told"
    found = check_split(clips_of("aabb", [0, 1, 0, 1]), [0, 2], [1, 3], allow_shared=True, names=("x", "y"))
    assert found.shared_groups == ("a", "b")
    assert found.note.endswith("both in 'x' and in 'y': a, b; scores may be too good.")


def test_exact_copies_on_both_sides_are_told():
    clips = clips_of("abcd", [0, 1, 0, 1])
    clips.keypoints[2][:] = clips.keypoints[0]
    assert check_split(clips, [0, 1], [2, 3]).note == "1 clip of 'test' also in 'train', copied exactly: c2."
    for i in (0, 2):
        clips.keypoints[i][:] = 0
    assert check_split(clips, [0, 1], [2, 3]).note == "", "nobody is seen in either: no copy of anything"


@needs_skeletons
def test_official_folds_pass_and_a_pattern_finds_who_is_shared():
    path = SKELETONS / "sbu_actions_coco17.pkl"
    clips, splits = read_pyskl(path)
    for k in range(5):
        found = check_split(clips, splits[f"fold{k}_train"], splits[f"fold{k}_test"])
        assert found.shared_groups == ()
        assert found.groups_train + found.groups_test == 21
        assert found.shared_subjects
    strict, splits = read_pyskl(path, subject_pattern=r"s\d\d")
    with pytest.raises(InputError, match=r"6 subjects .*: s01, s02, s03, s04, s05 and 1 more"):
        check_split(strict, splits["fold0_train"], splits["fold0_test"])
    strict, splits = read_pyskl(SKELETONS / "sbu_violence_coco17.pkl", subject_pattern=r"s\d\d")
    assert check_split(strict, splits["train"], splits["test"]).shared_subjects == ()


def sides(clips, held):
    """Whom training and validation show."""
    return [set().union(*(people_of(clips.groups[i]) for i in side)) for side in (held.train, held.validation)]


def parted(clips, held):
    """Whether each clip is on one side and both sides have all classes."""
    whole = np.array_equal(np.sort(np.r_[held.train, held.validation]), np.arange(len(clips)))
    return whole and all(len(set(clips.labels[i])) == len(clips.classes) for i in (held.train, held.validation))


@needs_skeletons
@pytest.mark.parametrize("seed", range(4))
def test_somebody_is_held_out_with_all_clips(seed):
    clips, splits = read_pyskl(SKELETONS / "sbu_actions_coco17.pkl")
    for k in range(5):
        part = clips.subset(splits[f"fold{k}_train"])
        held = hold_out(part, 0.2, seed)
        assert parted(part, held)
        assert held.note == ""
        assert 0.1 <= len(held.validation) / len(part) <= 0.4
        train, validation = sides(part, held)
        assert validation - train, "somebody whom training has not seen"
        assert not {part.groups[i] for i in held.train} & {part.groups[i] for i in held.validation}
        assert np.array_equal(held.validation, hold_out(part, 0.2, seed).validation)


def test_single_subjects_are_held_out_whole():
    groups, labels = [f"p{i // 6}" for i in range(60)], [0, 0, 1] * 20
    found = set()
    for seed in range(5):
        clips = clips_of(groups, labels, certain=True)
        held = hold_out(clips, 0.2, seed)
        assert parted(clips, held)
        assert held.note == ""
        train, validation = sides(clips, held)
        assert not train & validation
        assert len(held.validation) == 12
        found.add(tuple(held.validation))
    assert len(found) > 1, "seeds hold out different people"


def test_many_people_in_pairs():
    rng = np.random.default_rng(0)
    groups = ["+".join(sorted(rng.choice([f"p{i:02}" for i in range(40)], 2, replace=False))) for _ in range(300)]
    clips = clips_of(groups, rng.integers(0, 3, 300).tolist())
    held = hold_out(clips, 0.2)
    assert parted(clips, held)
    assert 0.1 < len(held.validation) / 300 < 0.35
    train, validation = sides(clips, held)
    assert validation - train


@pytest.mark.parametrize(
    ("groups", "labels", "note", "count"),
    [
        # The same man is in every pair: he cannot be held out, his partners can.
        (["a+b", "a+b", "a+c", "a+c", "a+d", "a+d"], [0, 1] * 3, "", 2),
        # Whoever is held out takes more than 40 % of the clips along.
        (["a+b", "a+b", "a+c", "a+c", "b+c", "b+c"], [0, 1] * 3, "Validation shares single people with training", 2),
        ("abcd", [0, 1, 0, 1], "Whose clips these are is unknown", 2),
        (["a"] * 4, [0, 1, 0, 1], "Validation shows people of training: a class has all", 2),
        ("abc", [0, 1, 0], "No clips are held out for validation: class 'class_1' has fewer than 2 clips.", 0),
    ],
)
def test_hold_out_says_what_it_had_to_do(groups, labels, note, count):
    clips = clips_of(groups, labels)
    held = hold_out(clips, 0.3)
    assert held.note.startswith(note) if note else held.note == ""
    assert len(held.validation) == count
    assert count == 0 or parted(clips, held)


def test_hold_out_of_nothing_or_too_much():
    held = hold_out(PAIRS, 0.0)
    assert len(held.train) == 4
    assert held.note == "No clips are held out for validation: the share is 0."
    with pytest.raises(ConfigError, match="validation 1 must be a share"):
        hold_out(PAIRS, 1)


@pytest.mark.parametrize(
    ("groups", "k", "made", "note"),
    [
        ([f"p{i // 4}" for i in range(24)], 3, 3, ""),
        (["a+b"] * 6 + ["c+d"] * 6 + ["e"] * 6 + ["f+e"] * 6, 3, 3, ""),
        (["a+b"] * 8 + ["a+c"] * 8 + ["b+c"] * 8, 5, 3, "Folds share single people"),
        (["a"] * 12 + ["b"] * 12, 5, 2, "There are 2 groups."),
        (["a"] * 24, 4, 4, "Folds share people: there are too few groups"),
    ],
)
def test_folds_hold_each_clip_out_once(groups, k, made, note):
    clips = clips_of(groups, [0, 1] * 12)
    found = folds(clips, k, seed=1)
    assert len(found) == made
    assert sorted(np.concatenate([f.validation for f in found]).tolist()) == list(range(24))
    for fold in found:
        assert parted(clips, fold)
        assert fold.note.startswith(note) if note else fold.note == ""
        train, validation = sides(clips, fold)
        assert note or not train & validation
    again = folds(clips, k, seed=1)
    assert all(np.array_equal(a.validation, b.validation) for a, b in zip(found, again, strict=True))


def test_folds_that_cannot_be():
    with pytest.raises(ConfigError, match="4 clips cannot be dealt into 1 folds"):
        folds(PAIRS, 1)
    with pytest.raises(LabelError, match="class 'class_1' has fewer than 2 clips"):
        folds(clips_of("abc", [0, 1, 0]), 2)


def test_videos_are_grouped_by_name_whatever_their_folder() -> None:
    names = {"v-1": ["fight/one.mp4"], "v-2": ["calm/one.mp4", "calm/two.mp4"], "v-3": ["three.mp4"]}
    assert video_groups(names, globs={"t*.mp4": "t"}) == {"v-1": "v-1", "v-2": "t", "v-3": "t"}
    assert video_groups(names, globs={"one.mp4": "o"}) == {"v-1": "o", "v-2": "o", "v-3": "v-3"}
    assert video_groups(names, globs={"calm/one.mp4": "c", "*/one.mp4": "o"}) == {"v-1": "o", "v-2": "c", "v-3": "v-3"}
    with pytest.raises(LabelError, match=r"'loud/one\.mp4' matches none"):
        video_groups(names, globs={"loud/one.mp4": "l"})
