"""MMPose's JSON: what its inferencer and its demos write, through the import to a file that is trained on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets.paper_files import folder, pose_json
from skeletons import walk

from posewatch.cli.main import main
from posewatch.config import PoseConfig
from posewatch.datasets import layouts
from posewatch.datasets.pyskl import read_pyskl
from posewatch.errors import InputError
from posewatch.perception.pose_files import read_poses
from posewatch.perception.poses.mmpose import read_mmpose


def test_frames_of_the_inferencer_and_of_the_demos(tmp_path):
    people = [walk(1, True, frames=5)[0], walk(2, False, frames=5)[0]]
    pose_json(tmp_path / "a.json", people, gaps=(2,))
    frames = read_mmpose(tmp_path / "a.json")
    assert [len(frame or ()) for frame in frames] == [2, 2, 0, 2, 2]
    np.testing.assert_allclose(frames[4].keypoints, np.stack(people)[:, 4], rtol=1e-5)
    data = json.loads((tmp_path / "a.json").read_text())
    demo = [{**frame, "frame_id": frame["frame_id"] + 1} for frame in data]  # the demos count from 1
    (tmp_path / "demo.json").write_text(json.dumps({"meta_info": {"num_keypoints": 17}, "instance_info": demo}))
    again = read_mmpose(tmp_path / "demo.json")
    assert [len(frame or ()) for frame in again] == [2, 2, 0, 2, 2]
    np.testing.assert_array_equal(again[1].keypoints, frames[1].keypoints)
    del demo[1]
    (tmp_path / "demo.json").write_text(json.dumps({"instance_info": demo}))
    assert [len(frame or ()) for frame in read_mmpose(tmp_path / "demo.json")] == [2, 0, 0, 2, 2], (
        "a frame left out is empty"
    )
    (tmp_path / "picture.json").write_text(json.dumps({"meta_info": {}, "instance_info": data[0]["instances"]}))
    assert [len(frame) for frame in read_mmpose(tmp_path / "picture.json")] == [2]


@pytest.mark.parametrize(("layout", "taken", "joints"), [(None, "coco17", 17), ("wholebody133", "wholebody133", 133)])
def test_whole_bodies_begin_with_coco(tmp_path, layout, taken, joints):
    one = {"keypoints": [[float(i), 100.0] for i in range(133)], "keypoint_scores": [0.5] * 133}
    (tmp_path / "a.json").write_text(json.dumps([{"frame_id": t, "instances": [one]} for t in range(5)]))
    found = read_poses(tmp_path, PoseConfig(), 1, 30.0, layouts.get(layout) if layout else None)
    assert (found.clips.layout, found.clips.keypoints[0].shape) == (taken, (1, 5, joints, 3))
    assert [note for note in found.notes if note.startswith("Of 133 joints the first 17")] == (
        [] if layout else ["Of 133 joints the first 17 are taken (all of them: --layout)."]
    )


@pytest.mark.parametrize("name", ["h36m17", "posetrack17", "coco17"])
def test_joints_that_the_file_names(tmp_path, name):
    """Human3.6M has as many joints as COCO: before, they were taken for COCO's."""
    one = {"keypoints": [[float(i + 5), 100.0] for i in range(17)], "keypoint_scores": [0.5] * 17}
    frames = [{"frame_id": t + 1, "instances": [one]} for t in range(5)]
    about = {"dataset_name": name, "keypoint_id2name": dict(enumerate(layouts.get(name).joints))}
    (tmp_path / "a.json").write_text(json.dumps({"meta_info": about, "instance_info": frames}))
    assert read_poses(tmp_path, PoseConfig(), 1, 30.0).clips.layout == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not what MMPose writes"),
        ('{"annotations": []}', "not what MMPose writes"),
        ('[{"frame_id": 0}]', "frame 0 has no list of instances"),
        ('[{"instances": [{"keypoints": [[1, 2]]}]}]', "frame 0: an instance needs keypoints and keypoint_scores"),
        ('[{"frame_id": 3, "instances": []}, {"frame_id": 3, "instances": []}]', "which is out of order"),
        ("{", "not readable JSON"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_mmpose(tmp_path / "a.json")


def test_a_folder_becomes_a_file_to_train_on(tmp_path, capsys):
    names = folder(tmp_path, videos=3)
    pose_json(tmp_path / "output/pose/cam-00_0_9.json", [walk(0, False, frames=8)[0]], gaps=tuple(range(8)))
    out = tmp_path / "skeletons.pkl"
    argv = ["import-poses", str(tmp_path / "output/pose"), "--labels", str(tmp_path / "input/label.csv")]
    assert main([*argv, "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "21 clips of 3 videos" in told.out
    assert "1 clip in which nobody is seen: cam-00_0_9" in told.err
    assert "3 clips unlabelled, not class 0, and left out" in told.err
    clips, splits = read_pyskl(out, resplit=0.3)
    assert (clips.fps, clips.unit, clips.classes, clips.relative) == (30.0, "person", ("normal", "selfharm"), False)
    assert not {clips.groups[i] for i in splits["train"]} & {clips.groups[i] for i in splits["test"]}
    index = clips.ids.index(names[0])
    np.testing.assert_allclose(clips.keypoints[index][..., :2], walk(0, True, frames=30)[..., :2], atol=1e-2)


def test_people_are_followed_though_the_file_swaps_them(tmp_path):
    a, b = walk(1, True, frames=12)[0], walk(2, False, frames=12)[0]
    b[..., 0] += 600
    pose_json(tmp_path / "a_0.json", [a, b])
    frames = json.loads((tmp_path / "a_0.json").read_text())
    for frame in frames[6:]:
        frame["instances"].reverse()
    (tmp_path / "a_0.json").write_text(json.dumps(frames))
    found = read_poses(tmp_path, PoseConfig(), 2, 30.0)
    assert not found.empty
    clips = found.clips
    where = clips.keypoints[0][:, :, 5, 0].mean(1)
    assert abs(where[0] - where[1]) > 300
    for person in clips.keypoints[0]:
        assert np.abs(np.diff(person[:, 5, 0])).max() < 100, "nobody jumps to the other's place"


def test_files_of_single_pictures_are_told(tmp_path):
    """MMPose's inferencer on a folder of pictures: a list of instances for each. Somebody is seen in all of them."""
    for t in range(6):
        person = walk(1, True, frames=6)[0][t]
        instance = {"keypoints": person[:, :2].tolist(), "keypoint_scores": person[:, 2].tolist(), "bbox_score": 0.9}
        (tmp_path / f"{t:06d}.json").write_text(json.dumps([instance]))
    with pytest.raises(InputError, match=r"each of the 6 files of .* is of one picture"):
        read_poses(tmp_path, PoseConfig(), 1, 30.0)


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(InputError, match=r"no .*\.json.* files in"):
        read_poses(tmp_path, PoseConfig(), 1, 30.0)
