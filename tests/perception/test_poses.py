"""Poses of other people's tools, as files that are trained on."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from perception import other_poses
from skeletons import walk

from posewatch.cli.main import main
from posewatch.config import PoseConfig
from posewatch.datasets import layouts
from posewatch.datasets.pyskl import read_pyskl
from posewatch.errors import InputError
from posewatch.perception.pose_files import Imported, read_poses

COCO = list(layouts.get("coco17").joints)
HD = (1080, 1920)


def people(frames: int = 12, joints: int = 17) -> np.ndarray:
    """(2, T, V, 3): two who stand apart; the second comes later, one joint of the first is never seen."""
    tracks = np.concatenate([walk(1, True, frames=frames), walk(2, False, frames=frames)])
    tracks[1, ..., 0] += 700
    tracks[1, :3] = 0
    tracks[0, :, 4] = 0
    return tracks[:, :, np.arange(joints) % 17]


def read(source: Path, people: int = 2, layout: str = "", size: tuple[int, int] | None = None) -> Imported:
    return read_poses(source, PoseConfig(), people, 30.0, layouts.get(layout) if layout else None, size)


def assert_same(found: np.ndarray, tracks: np.ndarray, atol: float = 0.02) -> None:
    """The tracks, in any order of the persons."""
    assert found.shape == tracks.shape
    order = np.argsort(found[:, -1, 5, 0])
    np.testing.assert_allclose(found[order], tracks[np.argsort(tracks[:, -1, 5, 0])], atol=atol)


@pytest.mark.parametrize(("joints", "layout"), [(25, "body25"), (18, "openpose18"), (15, "mpi15")])
def test_openpose(tmp_path: Path, joints: int, layout: str) -> None:
    tracks = people(joints=joints)
    other_poses.openpose(tmp_path, "fall_01", tracks)
    other_poses.openpose(tmp_path / "more", "", tracks[:1], first=30, step=5)
    found = read(tmp_path)
    assert found.clips.ids == ("fall_01", "more")
    assert found.clips.layout == layout
    assert_same(found.clips.keypoints[0], tracks)
    assert_same(found.clips.keypoints[1][:1], tracks[:1])  # --frame_step 5
    assert found.sizes == (None, None)


def test_openpose_in_shares_of_the_picture(tmp_path: Path) -> None:
    tracks = people(joints=25) / np.array([1920, 1080, 1], np.float32)
    other_poses.openpose(tmp_path, "a", tracks.round(5), scale=1.0)
    with pytest.raises(InputError, match=r"shares of the picture: say its size, --size 1920x1080"):
        read(tmp_path)
    assert_same(read(tmp_path, size=HD).clips.keypoints[0], people(joints=25), atol=1.1)
    tracks[..., :2] = tracks[..., :2] * 2 - 1
    tracks[people(joints=25)[..., 2] == 0] = 0
    other_poses.openpose(tmp_path, "a", tracks)
    with pytest.raises(InputError, match="from -1 to 1"):
        read(tmp_path, size=HD)


@pytest.mark.parametrize("ids", [True, False])
def test_alphapose(tmp_path: Path, ids: bool) -> None:
    other_poses.alphapose(tmp_path / "yard/alphapose-results.json", people(joints=26), ids)
    other_poses.openpose(tmp_path / "yard/sep-json", "x", people(joints=18))  # its second copy is not read
    found = read(tmp_path)
    assert (found.clips.ids, found.clips.layout) == (("yard",), "coco17")
    assert_same(found.clips.keypoints[0], people())
    assert read(tmp_path, layout="halpe26").clips.keypoints[0].shape == (2, 12, 26, 3)


def test_pictures_that_are_named_by_their_time(tmp_path: Path) -> None:
    """As those of UP-Fall: their last number is the millionth of a second."""
    tracks = people()
    times = [f"2018-07-04T12_04_{17 + t // 9}.{(t * 48123 + 738369) % 10**6:06d}" for t in range(12)]
    other_poses.alphapose(tmp_path / "fall/alphapose-results.json", tracks)
    rows = json.loads((tmp_path / "fall/alphapose-results.json").read_text())
    for row in rows:
        row["image_id"] = sorted(times)[int(row["image_id"][:-4])] + ".png"
    (tmp_path / "fall/alphapose-results.json").write_text(json.dumps(rows))
    other_poses.openpose(tmp_path / "open", "x", tracks[:, :, np.arange(25) % 17])
    for file, time in zip(sorted((tmp_path / "open").iterdir()), sorted(times), strict=True):
        file.rename(file.with_name(f"{time}_keypoints.json"))
    for name in ("fall", "open"):
        found = read(tmp_path / name)
        assert found.clips.ids == (name,)
        assert found.clips.keypoints[0].shape[:2] == (2, 12)


def test_videos_that_are_named_by_their_time(tmp_path: Path) -> None:
    for video in ("yard_20240101_120000", "yard_20240101_130000"):
        other_poses.openpose(tmp_path, video, people(joints=25))
    assert read(tmp_path).clips.ids == ("yard_20240101_120000", "yard_20240101_130000")


@pytest.mark.parametrize("form", ["open", "cmu"])
def test_alphapose_in_the_forms_of_others(tmp_path: Path, form: str) -> None:
    other_poses.alphapose(tmp_path / "yard.json", people(joints=18), form=form)
    found = read(tmp_path / "yard.json")
    assert (found.clips.ids, found.clips.layout) == (("yard",), "openpose18")
    assert_same(found.clips.keypoints[0], people(joints=18))


def test_coco_results(tmp_path: Path) -> None:
    other_poses.coco_results(tmp_path / "clip.json", people())
    found = read(tmp_path)
    assert (found.clips.ids, found.clips.layout) == (("clip",), "coco17")
    assert_same(found.clips.keypoints[0], people())


@pytest.mark.parametrize("tracks_in", ["attributes", "track_id", "nothing"])
def test_coco_annotations(tmp_path: Path, tracks_in: str) -> None:
    videos = {"yard": people(), "hall": people(8)}
    other_poses.coco_annotations(tmp_path / "person_keypoints_default.json", videos, COCO, tracks_in)
    found = read(tmp_path)
    assert found.clips.ids == ("yard_frame", "hall_frame")
    assert found.sizes == ((480, 640), (480, 640))
    for k, tracks in zip(found.clips.keypoints, videos.values(), strict=True):
        np.minimum(np.ceil(tracks[..., 2]), 1, out=tracks[..., 2])
        assert_same(k, tracks)


def test_joints_that_annotations_name(tmp_path: Path) -> None:
    other_poses.coco_annotations(tmp_path / "a.json", {"a": people()}, list(layouts.get("posetrack17").joints))
    assert read(tmp_path).clips.layout == "posetrack17"


@pytest.mark.parametrize("in_one", [True, False])
def test_ultralytics_json(tmp_path: Path, in_one: bool) -> None:
    other_poses.ultralytics_json(tmp_path, "yard", people(), ids=in_one, in_one=in_one)
    found = read(tmp_path)
    assert found.clips.ids == ("yard",)
    assert_same(found.clips.keypoints[0], people())


@pytest.mark.parametrize("conf", [True, False])
@pytest.mark.parametrize("ids", [True, False])
def test_ultralytics_text(tmp_path: Path, conf: bool, ids: bool) -> None:
    other_poses.yolo(tmp_path / "labels", "my_video", people(), HD, conf, ids)
    (tmp_path / "classes.txt").write_text("person\n")
    with pytest.raises(InputError, match="say its size"):
        read(tmp_path)
    found = read(tmp_path, size=HD)
    assert (found.clips.ids, found.sizes) == (("my_video",), (HD,))
    assert_same(found.clips.keypoints[0], people())


def test_ultralytics_text_of_other_joints(tmp_path: Path) -> None:
    other_poses.yolo(tmp_path, "a", people(joints=26), HD, True, True, per=2)
    with pytest.raises(InputError, match=r"lines of 59 numbers are not those of 17 joints \(give --layout"):
        read(tmp_path, size=HD)
    assert read(tmp_path, size=HD, layout="halpe26").clips.keypoints[0].shape == (2, 12, 26, 3)


def test_what_ultralytics_itself_writes(tmp_path: Path) -> None:
    results = pytest.importorskip("ultralytics.engine.results")
    torch = pytest.importorskip("torch")
    tracks = people()
    for t in range(tracks.shape[1]):
        here = [m for m in range(2) if tracks[m, t, :, 2].any()]
        boxes = torch.tensor([[*_box(tracks[m, t]), m + 1, 0.8, 0] for m in here])
        image = np.zeros((*HD, 3), np.uint8)
        one = results.Results(image, "a.mp4", {0: "person"}, boxes, keypoints=torch.from_numpy(tracks[here, t].copy()))
        one.save_txt(tmp_path / f"txt/a_{t + 1}.txt", save_conf=True)
        (tmp_path / "json").mkdir(exist_ok=True)
        (tmp_path / f"json/a_{t}.json").write_text(json.dumps(one.summary()))
        (tmp_path / "shares").mkdir(exist_ok=True)
        (tmp_path / f"shares/a_{t}.json").write_text(json.dumps(one.summary(normalize=True)))
    for folder in ("txt", "json", "shares"):
        assert_same(read(tmp_path / folder, size=HD).clips.keypoints[0], tracks)


def _box(person: np.ndarray) -> list[float]:
    seen = person[person[:, 2] > 0]
    return [*seen[:, :2].min(0).tolist(), *seen[:, :2].max(0).tolist()]


def test_kinetics(tmp_path: Path) -> None:
    tracks = people(joints=18) * np.array([0.25, 0.25, 1], np.float32)
    other_poses.kinetics(tmp_path / "kinetics_train/a.json", tracks, "fight", 7)
    other_poses.kinetics(tmp_path / "kinetics_val/b.json", tracks[:1], "abseiling", 0)
    other_poses.kinetics(tmp_path / "kinetics_val/c.json", tracks * 0, "abseiling", 0)
    (tmp_path / "kinetics_val_label.json").write_text('{"b": {"has_skeleton": true}}')
    found = read(tmp_path)
    assert (found.clips.ids, found.empty) == (("a", "b"), ("c",))
    assert (found.clips.classes, found.clips.labels.tolist()) == (("abseiling", "fight"), [1, 0])
    assert found.splits == {"train": [0], "val": [1]}
    assert (found.clips.layout, found.sizes[0]) == ("openpose18", (256, 340))
    assert_same(found.clips.keypoints[0], tracks, atol=0.2)
    again = read(tmp_path, size=HD)
    assert again.clips.keypoints[0].max() > 2 * found.clips.keypoints[0].max()


def ntu(seed: int, frames: int, first: int = 0, width: float = 0.3) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    space = (
        rng.uniform(-1, 1, (25, 3)) * [width, 0.9, 0.1] + [0, 0, 3] + 0.1 * rng.normal(size=(frames, 1, 3)).cumsum(0)
    )
    picture = np.concatenate([960 + 300 * space[..., :1], 540 - 300 * space[..., 1:2], np.ones((frames, 25, 1))], -1)
    return {first + t: (picture[t], space[t]) for t in range(frames)}


def test_ntu(tmp_path: Path) -> None:
    one, noise, short = ntu(1, 20), ntu(2, 20, width=3), ntu(3, 5)
    two, again = ntu(4, 12), ntu(5, 13, first=14)
    one[3][0][7] = np.nan, 500, 1
    one[3][0][8] = -np.inf, np.inf, 1
    one[4][0][6] = 500, 500, 0
    name = "S001C002P003R002A043"
    other_poses.skeleton(tmp_path / f"{name}.skeleton", {"7205": one, "1": noise, "2": short, "3": two}, 25)
    other_poses.skeleton(tmp_path / "S001C002P008R002A001.skeleton", {"9": two, "8": again}, 28)
    other_poses.skeleton(tmp_path / "S001C002P008R002A002.skeleton", {}, 9)
    found = read(tmp_path)
    assert found.empty == ("S001C002P008R002A002",)
    assert (found.clips.classes, found.clips.labels.tolist()) == (("A001", "A043"), [1, 0])
    assert found.clips.groups == ("P003", "P008")
    assert (found.clips.layout, found.sizes) == ("ntu25", (HD, HD))
    several, single = found.clips.keypoints
    assert single.shape == (2, 28, 25, 3), "one person whom Kinect lost and found again"
    assert (single[0].all((1, 2)) == [*[True] * 12, False, False, *[True] * 13, False]).all()
    assert not single[1].any()
    assert several.shape == (2, 25, 25, 3)
    by_length = sorted((track[..., 2].any(1).sum(), m) for m, track in enumerate(several))
    assert [n for n, _ in by_length] == [12, 20], "the chair and the five frames are nobody"
    own = several[by_length[1][1]]
    assert not own[[3, 3, 4], [7, 8, 6]].any()
    np.testing.assert_allclose(own[0, :, :2], one[0][0][:, :2], atol=0.01)
    path = tmp_path / f"{name}.skeleton"
    path.write_text(path.read_text()[:3000])
    with pytest.raises(InputError, match=r"A043\.skeleton: line \d+ is not what NTU RGB\+D has there"):
        read(tmp_path)


def test_arrays_of_ctrgcn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 10, 2, 25, 3)).astype(np.float32)
    x[:, 8:] = 0
    x[0, :, 1] = 0
    rows, classes = x.reshape(3, 10, 150), np.eye(60)[[42, 0, 42]]
    np.savez(tmp_path / "NTU60_CS.npz", x_train=rows[:2], y_train=classes[:2], x_test=rows[2:], y_test=classes[2:])
    found = read(tmp_path / "NTU60_CS.npz")
    assert found.clips.ids == ("train_0", "train_1", "test_0")
    assert found.splits == {"train": [0, 1], "test": [2]}
    assert found.clips.groups == found.clips.ids
    assert [found.clips.classes[k] for k in found.clips.labels] == ["class_42", "class_0", "class_42"]
    first = found.clips.keypoints[0]
    assert first.shape == (2, 8, 25, 3)
    assert not first[1].any()
    np.testing.assert_array_equal(first[0, ..., :2], x[0, :8, 0, :, :2] * [1, -1])
    assert "Coordinates are metres" in " ".join(found.notes)
    np.savez(tmp_path / "NTU60_CS.npz", x_train=rows[..., :75], y_train=classes)
    with pytest.raises(InputError, match=r"x_train must be \(clips, frames, 150"):
        read(tmp_path)


@pytest.mark.parametrize("joints", [25, 18])
def test_arrays_of_agcn(tmp_path: Path, joints: int) -> None:
    x = np.random.default_rng(0).uniform(0.1, 0.4, (2, 3, 10, joints, 2)).astype(np.float32)
    x[:, :, 6:] = 0
    np.save(tmp_path / "val_data_joint.npy", x)
    np.save(tmp_path / "val_data_bone.npy", x)
    with pytest.raises(InputError, match=r"needs val_label\.pkl beside it"):
        read(tmp_path)
    names = ["S001C001P001R001A001.skeleton", "S001C001P002R001A043.skeleton"]
    (tmp_path / "val_label.pkl").write_bytes(pickle.dumps((names, [0, 42])))
    found = read(tmp_path)
    assert found.clips.ids == ("S001C001P001R001A001", "S001C001P002R001A043")
    assert (found.clips.layout, found.splits) == ("ntu25" if joints == 25 else "openpose18", {"val": [0, 1]})
    assert found.clips.keypoints[0].shape == (2, 6, joints, 3)
    x0 = x[0, 0, 0, :, 0] if joints == 25 else (x[0, 0, 0, :, 0] + 0.5) * 340
    np.testing.assert_allclose(found.clips.keypoints[0][0, 0, :, 0], x0, rtol=1e-5)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.json": '{"shapes": [], "x": 1}'}, "a.json holds an object with 'shapes', 'x': not MMPose's"),
        ({"a.json": "[[1, 2], [3]]"}, "a list of 2, the first a list of 2, the first 1: not MMPose's predictions or"),
        ({"a.json": '{"people": []'}, "a.json is not readable JSON"),
        ({"a.txt": "hello world"}, "a.txt holds .*: not Ultralytics' save_txt"),
        ({"a.md": "x"}, r"no \.skeleton, \.npz, \.npy, \.json, \.txt files in .*OpenPose"),
        ({"a_1_keypoints.json": '{"people": []}'}, "each of the 1 files of .* is of one picture"),
        ({f"a_{t}_keypoints.json": '{"people": []}' for t in range(9)}, "nobody is seen in any of the 9 files"),
        ({"a_1.json": "[]", "a_2.json": "[]"}, r"nobody is in any of the 2 \.json files"),
        ({"a_keypoints.json": '{"people": []}'}, "its name has no number of a frame"),
        ({"a_1_keypoints.json": '{"people": [{"pose_keypoints_2d": [1, 2]}]}'}, "must be a list x1, y1, score1"),
        ({"a_1_keypoints.json": '{"people": [{"hands": []}]}'}, "a person has no pose_keypoints_2d"),
        ({"a_1_keypoints.json": '{"people": []}', "b.json": "[1]"}, "b.json is not of OpenPose's"),
        ({"a.npz": "x"}, "a.npz is not a file of arrays"),
        ({"a.json": '[{"image_id": 1, "keypoints": [1, 2, 1]}, {"keypoints": []}]'}, "a row without image_id"),
        ({"a.json": '{"images": [{"id": 1, "file_name": "a"}], '
                    '"annotations": [{"image_id": 1, "keypoints": [1, 2, 2]}]}'}, "has no frame_id"),
        ({"a.json": '{"images": [], "annotations": [{"image_id": 1, "bbox": []}]}'}, "none of its 1 annotations has"),
    ],
)  # fmt: skip
def test_what_is_told_of_other_files(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_numbered_videos_are_no_clips_of_one(tmp_path: Path) -> None:
    """Else a split would have all falls on one side."""
    for name in ("fall_01", "fall_02", "adl_01", "adl_02"):
        other_poses.openpose(tmp_path, name, people(joints=25))
    found = read(tmp_path)
    assert found.clips.groups == found.clips.ids == ("adl_01", "adl_02", "fall_01", "fall_02")


def test_two_formats_in_a_folder(tmp_path: Path) -> None:
    other_poses.openpose(tmp_path / "open", "a", people(joints=25))
    other_poses.yolo(tmp_path / "yolo", "a", people(), HD, True, True)
    (tmp_path / "readme.txt").write_text("Poses.")
    message = (
        r"holds OpenPose's --write_json \(open/.*json\) and Ultralytics' save_txt \(yolo/a_1\.txt\): give the folder"
    )
    with pytest.raises(InputError, match=message):
        read(tmp_path)
    assert read(tmp_path / "open").clips.layout == "body25"


def test_joints_of_several_numbers_in_a_folder(tmp_path: Path) -> None:
    other_poses.openpose(tmp_path, "a", people(joints=25))
    other_poses.openpose(tmp_path, "b", people(joints=18))
    with pytest.raises(InputError, match=r"b\* has 18 joints \(openpose18\), .*a\* 25 \(body25\): one folder for each"):
        read(tmp_path)
    with pytest.raises(InputError, match=r"has 18 joints, layout 'body25' has 25 \(--layout: openpose18\)"):
        read(tmp_path, layout="body25")
    other_poses.coco_results(tmp_path / "c.json", people(joints=14))
    with pytest.raises(InputError, match=r"14 joints \(they may be crowdpose14 or aic14: say --layout"):
        read(tmp_path / "c.json")
    assert read(tmp_path / "c.json", layout="aic14").clips.layout == "aic14"


def test_from_poses_to_a_file_that_is_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(6):
        tracks = np.concatenate([walk(i, bool(i % 2), frames=20)])[:, :, np.arange(25) % 17]
        other_poses.openpose(tmp_path / "poses", f"cam{i}", tracks)
    (tmp_path / "label.csv").write_text("".join(f"cam{i}.mp4, {'fall' if i % 2 else 'normal'}\n" for i in range(6)))
    out = tmp_path / "a.pkl"
    words = ["import-poses", str(tmp_path / "poses"), "--out", str(out), "--fps", "25"]
    assert main(words) == 0
    assert "No clip has a class: give the label.csv with --labels" in capsys.readouterr().err
    assert main([*words, "--labels", str(tmp_path / "label.csv"), "--size", "1920x1080"]) == 0
    said = capsys.readouterr()
    assert "6 clips of 6 videos" in said.out
    assert "OpenPose's --write_json: joints are body25, 25 of them." in said.err
    clips, _ = read_pyskl(out, resplit=0.3)
    assert (clips.layout, clips.fps, clips.classes) == ("body25", 25.0, ("normal", "fall"))
    assert clips.notes == ()
    data: dict[str, Any] = pickle.loads(out.read_bytes())
    assert data["annotations"][0]["img_shape"] == HD
    for wrong in ("1920", "0x5", "axb"):
        assert main([*words, "--size", wrong]) == 2
        assert "--size must be width x height in pixels" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["NTU60_CS.npz", "a.json", "folder"])
def test_training_on_poses_says_the_way(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    if name != "folder":
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match="is no pickle in pyskl's format: `posewatch import-poses` makes one"):
        read_pyskl(tmp_path / name)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a_1_keypoints.json": '{"people": [{"person_id": [NaN], "pose_keypoints_2d": [1, 2, 3]}]}'}, "has 1 joints"),
        ({"a.json": '[{"frame_id": null, "instances": []}]'}, "a frame_id is no whole number"),
        ({"a.json": '{"images": [{"id": [], "file_name": "1.png", "height": "x", "width": 1}], '
                    '"annotations": [{"image_id": 1, "keypoints": [1, 2, 2], "attributes": 7}]}'}, "are not among its"),
        ({"a.json": '[{"image_id": 1, "keypoints": [9, 9, 1]}, {"image_id": "x", "keypoints": [9, 9, 1]}]'}, "no int"),
        ({"a.json": '[[{"box": {}, "keypoints": {"x": [9], "y": [9]}, "confidence": "x", "track_id": 1e999}]]'}, "1 j"),
        ({"a_1.txt": "nan 0 0 0 0 1 2 3 4"}, "holds .*: not Ultralytics"),
    ],
)  # fmt: skip
def test_values_of_other_kinds(tmp_path: Path, files: dict[str, str], told: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=told):
        read(tmp_path)


def test_damaged_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x_train=np.ones((2, 9, 150), np.float32), y_train=np.eye(3)[:2])
    whole = path.read_bytes()
    header = whole.index(b"'descr'")
    path.write_bytes(whole[:header] + b"(((((((" + whole[header + 7 :])
    with pytest.raises(InputError, match=r"a\.npz: x_train is damaged"):
        read(tmp_path)
    path.write_bytes(whole[:500])
    with pytest.raises(InputError, match=r"a\.npz is not a file of arrays"):
        read(tmp_path)
