"""Datasets of the paper's tool: read, put right, told, or refused with the reason."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from datasets.paper_files import dataset_pkl, folder, pose_json
from skeletons import walk

from posewatch.datasets.paper import class_names, is_label_csv, read_label_csv, read_label_map, sources_of
from posewatch.datasets.pyskl import read_pyskl, write_pyskl
from posewatch.datasets.subjects import check_split
from posewatch.errors import InputError, LabelError


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The folder, and in it ``dataset_rtmo.pkl`` as the tool writes it: every label is 0."""
    root = tmp_path_factory.mktemp("paper")
    names = folder(root)
    dataset_pkl(root / "dataset_rtmo.pkl", root / "output/pose", names, {})
    return root


def test_the_dataset_is_put_right(made):
    clips, splits = read_pyskl(made / "dataset_rtmo.pkl", labels=made / "input/label.csv")
    told = " ".join(clips.notes)
    assert clips.classes == ("normal", "selfharm")
    assert (clips.fps, clips.layout, clips.unit, clips.relative) == (30.0, "coco17", "person", True)
    assert set(clips.groups) == {f"cam-{v:02d}" for v in range(5)}, "persons of one video are one group"
    assert len(clips) == 35
    assert "Labels are those of label.csv: 35 of 40 clips." in told
    assert "5 clips unlabelled, not class 0, and left out: cam-00_1_3, cam-01_1_3, cam-02_1_3 and 2 more." in told
    assert "train with --set train.features=hips" in told
    assert set(splits) == {"train", "val", "test"}
    assert splits["test"] == splits["val"]
    assert len(splits["train"]) + len(splits["val"]) == 35
    assert "source videos of 5 both in 'train' and in 'val'" in told
    assert "--resplit splits by video" in told
    index = clips.ids.index("cam-00_0_1")
    want = walk(1, False, frames=30)[0]
    relative = (want[..., :2] - want[:, [11, 12], :2].mean(1, keepdims=True)) / np.linalg.norm(
        want[:, 11, :2] - want[:, 12, :2], axis=-1
    )[:, None, None]
    np.testing.assert_allclose(clips.keypoints[index][0, ..., :2], relative, atol=0.02)


def test_classes_are_matched_by_name_whatever_their_order(made, tmp_path):
    """A model's classes in another order than the file's do not swap its labels."""
    own, _ = read_pyskl(made / "dataset_rtmo.pkl", labels=made / "input/label.csv")
    for path, labels in ((made / "dataset_rtmo.pkl", made / "input/label.csv"), (tmp_path / "ours.pkl", None)):
        if labels is None:
            write_pyskl(path, own, {"all": range(len(own))})
        clips, _ = read_pyskl(path, ["selfharm", "normal"], labels=labels)
        assert clips.classes == ("selfharm", "normal")
        assert [clips.classes[k] for k in clips.labels] == [own.classes[k] for k in own.labels]
    with pytest.raises(LabelError, match="class 'normal' is none of the classes: fall, selfharm"):
        read_pyskl(made / "dataset_rtmo.pkl", ["fall", "selfharm"], labels=made / "input/label.csv")


def test_a_shared_video_is_a_note_and_a_new_split_has_none(made):
    labels = made / "input/label.csv"
    clips, splits = read_pyskl(made / "dataset_rtmo.pkl", labels=labels)
    note = check_split(clips, splits["train"], splits["val"], names=("train", "val")).note
    assert "source videos of 'val' also in 'train'" in note
    clips, splits = read_pyskl(made / "dataset_rtmo.pkl", labels=labels, resplit=0.4)
    sides = [{clips.groups[i] for i in splits[part]} for part in ("train", "test")]
    assert not sides[0] & sides[1]
    assert check_split(clips, splits["train"], splits["test"]).note == ""
    assert len(splits["train"]) + len(splits["test"]) == len(clips)


def test_all_class_0_is_refused_unless_the_labels_are_given(made):
    with pytest.raises(LabelError, match=r"all 40 annotations are class 0, as the tool writes .* give the label\.csv"):
        read_pyskl(made / "dataset_rtmo.pkl")
    clips, _ = read_pyskl(made / "dataset_rtmo.pkl", labelled=False)
    assert len(clips) == 40, "for prediction no labels are needed"


def test_people_frames_and_hips(tmp_path):
    """Several people in one clip, frames without anybody, hips in one place: float16 makes infinity of them."""
    side = walk(3, False, frames=20)[0]
    side[:5, 11, :2] = side[:5, 12, :2]
    pose_json(tmp_path / "pose/a_0.json", [walk(1, True, frames=20)[0], walk(2, False, frames=20)[0]], gaps=(4, 5))
    pose_json(tmp_path / "pose/b_0.json", [side])
    pose_json(tmp_path / "pose/b_1.json", [walk(5, True, frames=20)[0]], gaps=tuple(range(20)))
    path = dataset_pkl(tmp_path / "dataset_x.pkl", tmp_path / "pose", ["a_0", "b_0", "b_1"], {"a_0": 1})
    clips, splits = read_pyskl(path, drop_empty=True)
    told = " ".join(clips.notes)
    assert clips.ids == ("a_0#1", "a_0#2", "b_0")
    assert clips.groups == ("a", "a", "b")
    assert [k.shape[1] for k in clips.keypoints] == [18, 18, 20]
    assert clips.labels.tolist() == [1, 1, 0]
    assert {clips.ids[i] for part in ("train", "val") for i in splits[part]} == set(clips.ids)
    assert not clips.keypoints[2][0, :5, :, 2].any(), "no position, so no score"
    assert np.isfinite(clips.keypoints[2]).all()
    for part in (
        "1 clip of several people",
        "2 annotations of fewer frames than the clip",
        "85 joints of frames whose hips coincide are missing",
        "1 clip in which nobody was found: b_1",
        "Class 0 may mean that nobody gave a label",
    ):
        assert part in told, part


def test_a_file_of_pixels_is_no_relative_one_and_a_mixture_is_refused(made, tmp_path):
    data = pickle.loads((made / "dataset_rtmo.pkl").read_bytes())
    for row in data["annotations"]:
        row["keypoint"] = row["keypoint"] * np.float16(40) + np.float16(300)
        row["label"] = int(row["frame_dir"][-1]) % 2
    path = tmp_path / "pixels.pkl"
    path.write_bytes(pickle.dumps(data))
    clips, _ = read_pyskl(path)
    assert not clips.relative
    data["annotations"][0]["keypoint"] = (data["annotations"][0]["keypoint"] - np.float16(300)) / np.float16(40)
    path.write_bytes(pickle.dumps(data))
    with pytest.raises(InputError, match="some clips are relative to the hips and others are pixels"):
        read_pyskl(path)


def test_relative_clips_stay_so_in_our_own_file(made, tmp_path):
    clips, splits = read_pyskl(made / "dataset_rtmo.pkl", labels=made / "input/label.csv")
    write_pyskl(tmp_path / "ours.pkl", clips, splits)
    again, _ = read_pyskl(tmp_path / "ours.pkl")
    assert again.relative
    assert again.unit == "person"
    assert again.groups == clips.groups


def test_labels_of_other_files_stay_theirs(tmp_path, made):
    clips, splits = read_pyskl(made / "dataset_rtmo.pkl", labels=made / "input/label.csv")
    write_pyskl(tmp_path / "ours.pkl", clips, splits)
    with pytest.raises(InputError, match="--labels is for the files of the paper's tools"):
        read_pyskl(tmp_path / "ours.pkl", labels=made / "input/label.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "label.csv has no labels"),
        ("a_0.mp4, normal, 3\n", "label.csv row 1 is not `clip file, class`: 'a_0.mp4, normal, 3'"),
        ("a_0.mp4, normal\na_0.mp4, fall\n", "row 2: clip a_0.mp4 is both 'normal' and 'fall'"),
        ("a_0.mp4,\n", "row 1 is not `clip file, class`"),
    ],
)
def test_label_files_that_do_not_go(tmp_path, text, message):
    (tmp_path / "label.csv").write_text(text)
    with pytest.raises(LabelError, match=message):
        read_label_csv(tmp_path / "label.csv")


def test_label_files(tmp_path):
    path = tmp_path / "label.csv"
    path.write_text("\ufeffclips/a_0.mp4, normal\n\nb_1.mp4,self harm\n", encoding="utf-8")
    assert is_label_csv(path)
    assert {k: v[0] for k, v in read_label_csv(path).items()} == {"a_0": "normal", "b_1": "self harm"}
    (tmp_path / "labels.csv").write_text("file,label\na.mp4,normal\n")
    assert not is_label_csv(tmp_path / "labels.csv"), "a header makes it another format"
    (tmp_path / "label_map.txt").write_text("normal\nself harm\n\n")
    assert class_names(str(tmp_path / "label_map.txt")) == ["normal", "self harm"]
    assert class_names("a, b") == ["a", "b"]
    for text, message in (("normal\n\nfall\n", "line 2 is empty"), ("a\nA\n", "at least two different classes")):
        (tmp_path / "label_map.txt").write_text(text)
        with pytest.raises(LabelError, match=message):
            read_label_map(tmp_path / "label_map.txt")


@pytest.mark.parametrize(
    ("names", "want"),
    [
        (["yard_0_3", "yard_1_3", "hall_0_0"], ("yard", "yard", "hall")),
        (["a_1_0", "a_1_1", "a_2_0"], ("a_1", "a_1", "a_2")),
        (["yard_0", "hall_0"], ("yard", "hall")),
        (["x", "y"], ("x", "y")),
    ],
)
def test_source_videos_by_name(names, want):
    assert sources_of(names) == want
