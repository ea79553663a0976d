"""Which joints a file holds, where several layouts have as many."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skeletons import clip_set

from posewatch.config import TrainConfig
from posewatch.datasets import layouts
from posewatch.datasets.layouts import Layout
from posewatch.datasets.pyskl import read_pyskl, write_pyskl
from posewatch.errors import InputError
from posewatch.inference.files import Item, predicted
from posewatch.recognition.training.checks import check

MIDDLE = {
    **dict.fromkeys(("nose", "head", "head_top"), -72), **dict.fromkeys(("neck", "neck_base", "head_bottom"), -58),
    **dict.fromkeys(("thorax", "chest", "torso", "spine_shoulder"), -48), **dict.fromkeys(("spine", "spine_mid"), -25),
    **dict.fromkeys(("root", "mid_hip", "belly", "spine_base"), 0),
}  # fmt: skip
SIDES = {
    "eye": (3, -74), "ear": (7, -72), "shoulder": (16, -50), "elbow": (20, -25), "wrist": (22, 0), "hand": (23, 6),
    "hand_tip": (23, 12), "thumb": (20, 8), "hip": (10, 0), "knee": (11, 40), "ankle": (11, 80), "foot": (13, 84),
    "big_toe": (14, 88), "small_toe": (17, 87), "heel": (10, 84),
}  # fmt: skip


def standing(layout: Layout) -> np.ndarray:
    """(V, 3): somebody who stands, by the joints' names."""
    places = []
    for name in layout.joints:
        side, _, part = name.partition("_")
        x, y = SIDES[part] if side in ("left", "right") else (0, MIDDLE[name])
        places.append((300 + (x if side == "left" else -x), 300 + y, 1))
    return np.array(places, np.float32)


def write(path: Path, name: str, **about: Any) -> Path:
    """Eight clips of somebody in the layout ``name``, which only ``about`` may say."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(8):
        k = np.tile(standing(layouts.get(name)), (1, 12, 1, 1))
        k[..., :2] = (k[..., :2] + rng.normal(0, 2, k[..., :2].shape)) * rng.uniform(0.5, 1.5)
        rows.append({"frame_dir": f"clip{i}", "label": i % 2, "keypoint": k[..., :2], "keypoint_score": k[..., 2]})
    path.write_bytes(pickle.dumps({"annotations": rows, **about}))
    return path


@pytest.mark.parametrize(
    ("name", "taken"), [("h36m17", "coco17"), ("body25", "ntu25"), ("mpi15", "kinect15"), ("jhmdb15", "kinect15")]
)
def test_joints_that_are_taken_for_others_are_told(tmp_path: Path, name: str, taken: str) -> None:
    clips, _ = read_pyskl(write(tmp_path / "a.pkl", name))
    assert clips.layout == taken
    assert clips.notes == (
        f"The {len(layouts.get(name).joints)} joints are taken for {taken}, but fit {name} better (shorter bones): say "
        f"--layout {name} if that is what they are.",
    )
    for how in ({"layout": name}, {}):
        clips, _ = read_pyskl(write(tmp_path / "a.pkl", name, **({} if how else {"layout": name})), **how)
        assert (clips.layout, clips.notes) == (name, ())


@pytest.mark.parametrize("name", ["coco17", "ntu25", "kinect15"])
def test_joints_that_are_what_they_are_taken_for_are_not_told(tmp_path: Path, name: str) -> None:
    clips, _ = read_pyskl(write(tmp_path / "a.pkl", name))
    assert (clips.layout, clips.notes) == (name, ())


def test_a_number_that_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    rows = [{"frame_dir": f"c{i}", "label": i, "keypoint": np.ones((1, 5, 14, 2))} for i in range(2)]
    path.write_bytes(pickle.dumps(rows))
    with pytest.raises(InputError, match="14 joints, which may be crowdpose14 or aic14: say --layout"):
        read_pyskl(path)
    assert read_pyskl(path, layout="aic14")[0].layout == "aic14"
    with pytest.raises(InputError, match=r"have 14 joints, .* wants 17 \(--layout: crowdpose14, aic14\)"):
        read_pyskl(path, layout="coco17")


def test_a_model_of_other_joints_is_refused(tmp_path: Path) -> None:
    """As many joints, but others: before, such clips were scored."""
    path = write(tmp_path / "a.pkl", "h36m17", layout="h36m17")
    message = "the clips' joints are those of h36m17, the model's those of coco17"
    with pytest.raises(InputError, match=message):
        read_pyskl(path, model_layout=layouts.get("coco17"))
    assert read_pyskl(path, layout="coco17", model_layout=layouts.get("coco17"))[0].layout == "coco17", "asked for"
    with pytest.raises(InputError, match=message):
        read_pyskl(write(tmp_path / "b.pkl", "h36m17"), layout="h36m17", model_layout=layouts.get("coco17"))
    own = Layout("mine", tuple(f"joint{i}" for i in range(17)), ((1, 0),), 0, ())
    assert read_pyskl(path, model_layout=own)[0].layout == "mine", "trained on the file by --layout mine.yaml"
    clips, _ = read_pyskl(path, for_model=True)

    class Model:
        joints, flow, layout, metadata = 17, 0, "coco17", {}

    with pytest.raises(InputError, match=message):
        predicted(Model(), [Item("a.pkl", "clip0", clips.keypoints[0], layout=clips.layout)])


def test_a_layout_that_the_file_contradicts_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pkl", "h36m17", layout="h36m17")
    told = "The file says that its joints are those of h36m17; they are read as coco17, as --layout says."
    assert read_pyskl(path, layout="coco17")[0].notes == (told,)
    own = Layout("mine", tuple(f"joint{i}" for i in range(17)), ((1, 0),), 0, ())
    assert read_pyskl(path, layout=own)[0].notes == (told.replace("coco17", "mine"),)
    theirs = write(tmp_path / "c.pkl", "h36m17", layout="mine")
    assert read_pyskl(theirs, layout=own)[0].notes == ()
    assert read_pyskl(theirs, layout="coco17")[0].notes == (told.replace("h36m17", "mine"),)
    alike = write(tmp_path / "b.pkl", "coco17", layout="coco17")
    for same in ("coco17", "coco20", dataclasses.replace(layouts.get("coco17"), name="ours")):
        assert read_pyskl(alike, layout=same)[0].notes == ()


def test_train_layout_must_be_of_the_clips_joints(tmp_path: Path) -> None:
    write_pyskl(tmp_path / "a.pkl", clip_set(8), {})
    clips, _ = read_pyskl(tmp_path / "a.pkl")
    check(clips, clips.subset([]), TrainConfig(layout="coco20"), "abnormal", layouts.get("coco20"))
    with pytest.raises(InputError, match=r"those of coco17, train\.layout's those of h36m17"):
        check(clips, clips.subset([]), TrainConfig(layout="h36m17"), "abnormal", layouts.get("h36m17"))
