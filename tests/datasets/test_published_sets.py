"""Annotation files in the shapes in which published sets and pyskl's own tools have them."""

from __future__ import annotations

import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skeletons import walk

from posewatch.datasets.pyskl import read_pyskl
from posewatch.errors import InputError, LabelError


def rows(count: int = 4, people: int = 1, **more: Any) -> list[dict[str, Any]]:
    found = []
    for i in range(count):
        k = walk(i, bool(i % 2), frames=12, people=people).astype(np.float16)
        found.append(
            {"frame_dir": f"v{i}", "label": i % 2, "img_shape": (1080, 1920), "original_shape": (1080, 1920),
             "total_frames": 12, "keypoint": k[..., :2], "keypoint_score": k[..., 2], **more}
        )  # fmt: skip
    return found


def write(path: Path, data: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(data, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4])
def test_splits_in_any_container(tmp_path: Path, protocol: int) -> None:
    """defaultdict(list) is what most scripts collect splits in; sets and OrderedDicts are met, too."""
    split: Any = defaultdict(list)
    split["train"] += ["v0", "v1"]
    split["test"] = {"v2", "v3"}
    for about in (split, OrderedDict(split), {"train": np.array(["v0", "v1"]), "test": ("v2", "v3")}):
        _, splits = read_pyskl(write(tmp_path / "a.pkl", {"split": about, "annotations": rows()}, protocol))
        assert splits == {"train": [0, 1], "test": [2, 3]}


def test_a_list_that_a_file_would_call_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"cbuiltins\nlist\n(V100\ntR.")
    with pytest.raises(InputError, match="is not a safe pickle: it loads list"):
        read_pyskl(tmp_path / "a.pkl")


def test_clips_without_a_body(tmp_path: Path) -> None:
    """ntu_preproc.py leaves None for a clip in which Kinect saw nobody, and its name in the splits."""
    made = [*rows()[:2], None, *rows()[2:]]
    split = {"xsub_train": ["v0", "empty", "v1"], "xsub_val": ["v2", "v3"]}
    clips, splits = read_pyskl(write(tmp_path / "a.pkl", {"split": split, "annotations": made}))
    assert splits == {"xsub_train": [0, 1], "xsub_val": [2, 3]}
    assert clips.notes == ("1 annotation without a body (None) left out, in the splits, too.",)
    split["xsub_val"].append("other")
    with pytest.raises(InputError, match="split 'xsub_train' names 1 clip without an annotation: empty"):
        read_pyskl(write(tmp_path / "a.pkl", {"split": split, "annotations": made}))


def compressed(row: dict[str, Any]) -> dict[str, Any]:
    """As ``custom_2d_skeleton.py --compress`` writes it: a row for each person of each frame; none in frame 5."""
    k = np.concatenate([row["keypoint"], row["keypoint_score"][..., None]], -1)
    places = [(t, m) for t in range(12) for m in range(len(k)) if t != 5 and not (m == 1 and t < 3)]
    flat = np.stack([k[m, t] for t, m in places])
    inds = np.array([t for t, _ in places], np.int16)
    return {**{k: v for k, v in row.items() if k != "keypoint_score"}, "keypoint": flat, "frame_inds": inds}


def test_the_compressed_form(tmp_path: Path) -> None:
    made = rows(people=2)
    clips, _ = read_pyskl(write(tmp_path / "a.pkl", list(map(compressed, made))))
    for found, row in zip(clips.keypoints, made, strict=True):
        assert found.shape == (2, 12, 17, 3)
        assert not found[:, 5].any()
        assert not found[1, :3].any()
        np.testing.assert_array_equal(found[0, :5, :, :2], row["keypoint"][0, :5])
        np.testing.assert_array_equal(found[1, 6:, :, 2], row["keypoint_score"][1, 6:])
    for change in ({"frame_inds": np.zeros(3, np.int16)}, {"total_frames": 10**9}, {"total_frames": 3}):
        bad = [{**compressed(made[0]), **change}, compressed(made[1])]
        with pytest.raises(InputError, match="clip v0: keypoint, keypoint_score, frame_inds or total_frames"):
            read_pyskl(write(tmp_path / "a.pkl", bad))


def test_a_table_of_contents(tmp_path: Path) -> None:
    """k400_hrnet.pkl: the keypoints are in other files."""
    row = {"frame_dir": "v0", "label": 3, "total_frames": 300, "raw_file": "k400/kpfiles/abseiling.pkl",
           "frame_inds": np.arange(5, dtype=np.int16), "box_score": np.ones(5), "valid": {0.5: 5}}  # fmt: skip
    with pytest.raises(InputError, match=r"clip v0: its keypoints are in another file \(k400/kpfiles/abseiling\.pkl\)"):
        read_pyskl(write(tmp_path / "a.pkl", [row]))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([1], ""),
        (np.array([1]), ""),
        (np.int64(1), ""),
        (np.array(1), ""),
        ([0, 1], r"clip v0 has the labels \[0, 1\]: give each clip one class"),
        (np.array([0, 1]), r"clip v0 has the labels \[0, 1\]"),
        (None, "clip v0 has no label"),
    ],
)
def test_labels(tmp_path: Path, label: Any, message: str) -> None:
    made = rows()
    made[0]["label"] = label
    path = write(tmp_path / "a.pkl", made)
    if not message:
        assert read_pyskl(path)[0].labels.tolist() == [1, 1, 0, 1]
    else:
        with pytest.raises(LabelError, match=message):
            read_pyskl(path)
    assert len(read_pyskl(path, labelled=False)[0]) == 4


def test_a_score_that_is_none(tmp_path: Path) -> None:
    clips, _ = read_pyskl(write(tmp_path / "a.pkl", rows(keypoint_score=None)))
    assert clips.keypoints[0][..., 2].min() == 1


def test_one_annotation_by_itself(tmp_path: Path) -> None:
    """MMAction2's ntu_pose_extraction.py: a file for each video."""
    (one,) = rows(1, frame_dir="S001C001P001R001A001")
    clips, splits = read_pyskl(write(tmp_path / "a.pkl", one), for_model=True)
    assert (clips.ids, splits, clips.keypoints[0].shape[2]) == (("S001C001P001R001A001",), {}, 17)


def test_scores_in_the_third_coordinate(tmp_path: Path) -> None:
    """PreNormalize2D of pyskl and MMAction2 takes them for scores; of 3D joints the third is a place."""
    rng = np.random.default_rng(0)
    some = rows(2)
    for one in some:
        scores = rng.uniform(0, 1.02, one["keypoint"].shape[:3])
        scores[:, :, 3] = 0
        one.pop("keypoint_score")
        one["keypoint"] = np.concatenate([one["keypoint"], scores[..., None]], -1)
    clips, _ = read_pyskl(write(tmp_path / "a.pkl", some))
    assert clips.keypoints[0][..., 2] == pytest.approx(np.minimum(some[0]["keypoint"][..., 2], 1))
    assert not clips.keypoints[0][:, :, 3].any()
    for one in some:
        one["keypoint"] = rng.normal(0, 1, (2, 12, 25, 3))  # metres
    clips, _ = read_pyskl(write(tmp_path / "a.pkl", some))
    assert (clips.keypoints[0][..., 2] == 1).all()
    some[0]["keypoint"] = np.full((1, 12, 25, 3), np.nan)
    with pytest.raises(InputError, match="NaN"):
        read_pyskl(write(tmp_path / "a.pkl", some))


def test_coordinates_before_persons(tmp_path: Path) -> None:
    """MMAction2 0.x, gen_ntu_rgbd_raw.py: (3, T, V, 2), which looks like three persons."""
    places = np.random.default_rng(0).normal(0, 1, (2, 2, 8, 25, 3)).astype(np.float32)
    some = [
        {"frame_dir": f"c{i}", "label": i, "total_frames": 6, "img_shape": (1080, 1920),
         "keypoint": places[i].transpose(3, 1, 2, 0), "keypoint_score": np.ones((3, 8, 25), np.float32)}
        for i in range(2)
    ]  # fmt: skip
    clips, _ = read_pyskl(write(tmp_path / "a.pkl", some))
    for mine, theirs in zip(clips.keypoints, places, strict=True):
        assert np.array_equal(mine[..., :2], theirs[:, :6, :, :2])
