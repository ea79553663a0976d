"""Ground truth of public data sets, in rows and folders as their authors publish them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.formats.importers import assign, find_labels

UCF = """Abuse028_x264.mp4  Abuse  165  240  -1  -1  \r
Arson011_x264.mp4  Arson  150  420  680  1267  \r
Fighting018_x264.mp4  Fighting  80  420  -1  -1  \r
Normal_Videos_003_x264.mp4  Normal  -1  -1  -1  -1  \r
"""
XD = """Bad.Boys.1995__#01-33-51_01-34-37_label_B2-0-0 240 480
v=S-7rRLrxnVQ__#1_label_B1-B5-0.mp4 48 96 144 192
"""


def read(
    path: Path, *classes: str, positive: str = "abnormal"
) -> tuple[list[tuple[str, float, float, str]], list[str]]:
    """(file, start, end, label) of the labels, and what was said."""
    told: list[str] = []
    config = LabelConfig(classes=("normal", *(classes or ("abnormal",))), positive=positive)
    return [
        (i.file, round(i.start_s, 3), round(i.end_s, 3), i.label) for i in find_labels(path, config, told.append)
    ], told


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_the_test_videos_of_ucf_crime(tmp_path: Path, make_clips) -> None:
    path = write(tmp_path / "Temporal_Anomaly_Annotation_for_Testing_Videos.txt", UCF)
    found, told = read(path)
    assert found[:3] == [
        ("Abuse028_x264.mp4", 0.0, 5.5, "normal"),
        ("Abuse028_x264.mp4", 5.5, 8.0, "abnormal"),
        ("Abuse028_x264.mp4", 8.0, math.inf, "normal"),
    ]
    assert [row[1:3] for row in found if row[0] == "Arson011_x264.mp4" and row[3] == "abnormal"] == [
        (5.0, 14.0),
        (22.667, 42.233),
    ]
    assert found[-1] == ("Normal_Videos_003_x264.mp4", 0.0, math.inf, "normal")
    assert told == [
        f"{path.name}: events (Abuse, Arson, Fighting) count as 'abnormal', no class has one of these names"
    ]
    assert {(i.label, i.act) for i in find_labels(path)} == {
        ("normal", ""),
        *(("abnormal", act) for act in ("Abuse", "Arson", "Fighting")),
    }
    assert read(tmp_path) == (found, [told[0].replace(path.name, tmp_path.name)]), "the folder that it lies in"

    # one video of the list is here, under its folder; the others are no error
    useless: list[str] = []
    clips = make_clips("Anomaly-Videos-Part-1/Abuse/Abuse028_x264.mp4", count=4, length=3.0)
    labels = assign(clips, find_labels(path), LabelConfig(), useless=useless)
    assert list(labels.values()) == ["normal", "abnormal", "abnormal", "normal"]
    assert len(useless) == 3
    assert useless[0] == "'Arson011_x264.mp4' is not here"


def test_a_table_of_ones_own_goes_before_the_list_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "ucf.txt", UCF)
    write(tmp_path / "labels.csv", "file,start_s,end_s,label\nAbuse028_x264.mp4,0,9,normal\n")
    assert read(tmp_path) == ([("Abuse028_x264.mp4", 0.0, 9.0, "normal")], [])


def test_an_event_may_last_longer_than_the_copy_of_its_video(tmp_path: Path, make_clips) -> None:
    path = write(tmp_path / "ucf.txt", UCF.splitlines()[0].replace("240", "9000") + "\n")
    useless: list[str] = []
    labels = assign(make_clips("Abuse028_x264.mp4"), find_labels(path), LabelConfig(), useless=useless)
    assert list(labels.values()) == ["normal", "abnormal", "abnormal", "abnormal"]
    assert not useless


def test_events_of_no_class_are_neither_that_nor_normal(tmp_path: Path) -> None:
    path = write(tmp_path / "ucf.txt", UCF)
    found, told = read(path, "fighting", positive="fighting")
    assert {row[0] for row in found} == {"Fighting018_x264.mp4", "Normal_Videos_003_x264.mp4"}
    assert ("Fighting018_x264.mp4", 2.667, 14.0, "fighting") in found
    assert told == ["ucf.txt: videos of no class are left out: Abuse (1), Arson (1)"]
    with pytest.raises(
        LabelError, match=r"^ucf.txt: none of its events \(Abuse, Arson, Fighting\) is one of normal, fall"
    ):
        read(path, "fall", positive="fall")


def test_a_list_with_a_row_that_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "ucf.txt", UCF + "Abuse030_x264.mp4 Abuse 1275\n")
    with pytest.raises(LabelError, match=r"^ucf.txt row 5: 'Abuse030_x264.mp4 Abuse 1275' is not like the rows before"):
        read(path)


def test_the_test_videos_of_xd_violence_and_their_normal_ones(tmp_path: Path) -> None:
    write(tmp_path / "annotations.txt", XD)
    normal = "A.Beautiful.Mind.2001__#00-25-20_00-29-20_label_A.mp4"
    write(tmp_path / "videos" / normal, "")
    found, told = read(tmp_path, "fighting", "shooting", positive="fighting")
    assert ("Bad.Boys.1995__#01-33-51_01-34-37_label_B2-0-0", 10.0, 20.0, "shooting") in found
    assert [row[1:] for row in found if row[0].startswith("v=")] == [
        (0.0, 2.0, "normal"),
        (2.0, 4.0, "fighting"),
        (4.0, 6.0, "normal"),
        (6.0, 8.0, "fighting"),
        (8.0, math.inf, "normal"),
    ]
    assert (f"videos/{normal}", 0.0, math.inf, "normal") in found
    assert not told


@pytest.mark.parametrize("folder", ["Annotation_files", "Annotations_files"])
def test_the_falls_of_le2i(tmp_path: Path, folder: str) -> None:
    room = tmp_path / "Home_01" / "Home_01"  # as it is unpacked
    write(room / folder / "video (1).txt", "144\r\n164\r\n1,1,205,70,259,170\r\n2,1,205,70,259,170\r\n")
    write(room / folder / "video (2).txt", "0\n0\n1,1,0,0,0,0\n")
    write(room / folder / "video (3).txt", "1,1,0,0,0,0\n2,1,0,0,0,0\n")
    found, told = read(tmp_path, "fall", positive="fall")
    assert found == [
        ("Home_01/Home_01/Videos/video (1)", 0.0, 5.76, "normal"),
        ("Home_01/Home_01/Videos/video (1)", 5.76, 6.56, "fall"),
        ("Home_01/Home_01/Videos/video (1)", 6.56, math.inf, "normal"),
        ("Home_01/Home_01/Videos/video (2)", 0.0, math.inf, "normal"),
    ]
    assert not told


def test_le2i_rooms_have_videos_of_the_same_name(tmp_path: Path, make_clips) -> None:
    for room, frames in (("Home_01", "30\n60\n"), ("Home_02", "0\n0\n")):
        write(tmp_path / room / "Annotation_files" / "video (1).txt", frames)
    clips = [*make_clips("Home_01/Videos/video (1).avi"), *make_clips("Home_02/Videos/video (1).avi")]
    assert list(assign(clips, find_labels(tmp_path), LabelConfig()).values()) == ["abnormal"] + ["normal"] * 7


def test_the_frames_of_ubi_fights(tmp_path: Path) -> None:
    write(tmp_path / "annotation" / "F_0_1_0_0_0.csv", "0\n" * 60 + "1\n" * 90 + "0\n" * 30)
    write(tmp_path / "annotation" / "N_0_0_0_1_0.csv", "0\n" * 60)
    found, _ = read(tmp_path, "fight", positive="fight")
    assert found == [
        ("F_0_1_0_0_0", 0.0, 2.0, "normal"),
        ("F_0_1_0_0_0", 2.0, 5.0, "fight"),
        ("F_0_1_0_0_0", 5.0, math.inf, "normal"),
        ("N_0_0_0_1_0", 0.0, math.inf, "normal"),
    ]
    write(tmp_path / "annotation" / "notes.csv", "file,start_s\n")
    with pytest.raises(LabelError, match="no labels in"):
        read(tmp_path)
