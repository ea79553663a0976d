"""Labels of public sets of falls, in rows as their authors publish them."""

from __future__ import annotations

from pathlib import Path

import pytest
from labels.test_public_sets import read, write

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.formats.importers import assign, find_labels

OMNIFALL = """path,label,start,end,subject,cam,dataset
Coffee_room_01/video_1,0,0.0,4.0,3,1,le2i
Coffee_room_01/video_1,1,4.0,5.0,3,1,le2i
Coffee_room_01/video_1,2,5.0,9.0,3,1,le2i
Coffee_room_01/video_1,7,9.0,9.0,3,1,le2i
Subject_1/ADL/02,5,0.0,2.5,1,1,gmdcsa24
"""
URFD_FALLS = """fall-01,1,-1,3.1,2.9,0.5
fall-01,2,-1,3.3,2.9,0.5
fall-01,3,0,3.3,2.9,0.5
fall-01,4,0,3.3,2.9,0.5
fall-01,5,1,3.1,2.9,0.5
fall-02,1,-1,3.1,2.9,0.5
"""
URFD_ADLS = "adl-01,31,-1,6.3,1.2\nadl-01,32,0,6.3,1.2\nadl-01,33,1,6.3,1.2\n"


@pytest.mark.parametrize("place", ["labels/le2i.csv", "of-syn.csv"])
def test_the_acts_of_omnifall(tmp_path: Path, place: str) -> None:
    path = write(tmp_path / place, OMNIFALL)
    write(tmp_path / "labels" / "label2id.csv", "id,label\n0,walk\n")
    wanted = [
        ("Coffee_room_01/video_1", 0.0, 4.0, "normal"),
        ("Coffee_room_01/video_1", 4.0, 5.0, "fall"),
        ("Subject_1/ADL/02", 0.0, 2.5, "normal"),
    ]
    for source in (path, tmp_path):
        found, told = read(source, "fall", positive="fall")
        assert found == wanted
        assert told == [f"{source.name}: 1 times somebody lies where they fell: left out, no class is called 'fallen'"]
    assert [i.act for i in find_labels(path, LabelConfig(("normal", "fall"), positive="fall"))] == [
        "walk", "fall", "lie_down",
    ]  # fmt: skip


def test_acts_have_the_class_of_their_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", OMNIFALL)
    found, told = read(path, "Fall", "Fallen", "lie_down", positive="Fall")
    assert [row[3] for row in found] == ["normal", "Fall", "Fallen", "lie_down"]
    assert told == []
    found, told = read(path)
    assert [row[3] for row in found] == ["normal", "abnormal", "normal"]
    assert told[0] == "a.csv: falls count as 'abnormal', no class is called 'fall'"
    with pytest.raises(LabelError, match=r"a\.csv: none of normal, fight is for falls: set labels\.positive"):
        read(path, "fight", positive="")


def test_videos_are_found_by_the_end_of_their_path(tmp_path: Path, make_clips) -> None:
    clips = make_clips("le2i/Coffee_room_01/video_1.avi", 3)
    config = LabelConfig(("normal", "fall"), positive="fall")
    useless: list[str] = []
    labels = assign(clips, find_labels(write(tmp_path / "a.csv", OMNIFALL), config), config, useless=useless)
    assert [labels.get(clip.clip.id) for clip in clips] == ["normal", "fall", None]
    assert useless == ["'Subject_1/ADL/02' is not here"]


def test_the_frames_of_ur_fall_detection(tmp_path: Path) -> None:
    write(tmp_path / "urfall-cam0-falls.csv", URFD_FALLS)
    write(tmp_path / "urfall-cam0-adls.csv", URFD_ADLS)
    found, told = read(tmp_path, "fall", positive="fall")
    assert found == [
        ("adl-01-cam0", 1.0, 1.033, "normal"),
        ("adl-01-cam0", 1.033, 1.067, "normal"),
        ("adl-01-cam0", 1.067, 1.1, "normal"),
        ("fall-01-cam0", 0.0, 0.067, "normal"),
        ("fall-01-cam0", 0.067, 0.133, "fall"),
        ("fall-02-cam0", 0.0, 0.033, "normal"),
    ]
    assert told == [f"{tmp_path.name}: 1 times somebody lies where they fell: left out, no class is called 'fallen'"]
    assert {i.act for i in find_labels(tmp_path)} == {"other", "lie_down", "lying", "fall"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OMNIFALL + "a/b,16,0,1,1,1,x\n", r"a\.csv row 7: label '16' is none of OmniFall's 0 to 15"),
        (OMNIFALL + "a/b,1,zero,1,1,1,x\n", r"a\.csv row 7: start must be a number of seconds, not 'zero'"),
        (URFD_FALLS + "fall-02,2,3,0\n", r"a\.csv row 7: 'fall-02,2,3,0' is not like the rows before: correct it"),
    ],
)
def test_a_row_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        read(write(tmp_path / "a.csv", text), "fall", positive="fall")
