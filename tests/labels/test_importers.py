from __future__ import annotations

import math
from pathlib import Path

import pytest

from posewatch.config import LabelConfig
from posewatch.datasets.gmdcsa24 import parse_classes, read_gmdcsa24
from posewatch.datasets.intervals import Interval, read_class_folders, read_labels_csv
from posewatch.errors import LabelError
from posewatch.labels.formats.importers import (
    ImportReport,
    assign,
    find_labels,
    import_clip_labels,
    import_labels,
)

CONFIG = LabelConfig()
HEADER = "file,start_s,end_s,label\n"
GMDCSA24 = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "video" / "gmdcsa24"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_labels_csv_is_read(tmp_path):
    text = "\ufefflabel, file ,start_s,end_s,note\nnormal, a b.mp4 ,0,2.5,x\n\nabnormal,sub/c.mp4,2.5,inf,\n"
    assert read_labels_csv(write(tmp_path / "labels.csv", text)) == [
        Interval("a b.mp4", 0, 2.5, "normal"),
        Interval("sub/c.mp4", 2.5, math.inf, "abnormal"),
    ]


def test_fields_beyond_the_header_are_ignored(tmp_path):
    """The label is the field under "label", not the row's last one."""
    rows = read_labels_csv(write(tmp_path / "labels.csv", HEADER + "a.mp4,0,1,normal,seen by A\n"))
    assert rows == [Interval("a.mp4", 0, 1, "normal")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "labels.csv has no column 'file': found nothing; expected file, start_s, end_s, label"),
        ("file,since,end_s,label\na,0,1,normal\n", "no column 'start_s': found file, since, end_s, label; expected"),
        ("file:start_s:end_s:label\n", "no column 'file': found file:start_s:end_s:label; expected"),
        ("file;start_s;end_s;label;LABEL\n", "labels.csv has two columns 'label': rename or remove one"),
        (HEADER, "labels.csv has no labels"),
        (
            HEADER + "a.mp4,0,1,normal\n\na.mp4,zero,1,normal\n",
            "row 4: start_s must be a number of seconds, not 'zero'",
        ),
        (HEADER + "a.mp4,-1,1,normal\n", "row 2: start_s must be 0 or more seconds, not '-1'"),
        (HEADER + "a.mp4,0,nan,normal\n", "row 2: end_s must be 0 or more seconds"),
        (HEADER + "a.mp4,inf,inf,normal\n", "row 2: start_s must be finite"),
        (HEADER + "a.mp4,3,3,normal\n", "row 2: end_s 3 must be greater than start_s 3"),
        (HEADER + ",0,1,normal\n", "row 2: file is empty"),
        (HEADER + "a.mp4,0,1\n", "row 2: label is empty"),
    ],
)
def test_a_labels_csv_that_does_not_fit_is_one_clear_line(tmp_path, text, message):
    with pytest.raises(LabelError) as caught:
        read_labels_csv(write(tmp_path / "labels.csv", text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_csv(tmp_path):
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00file")
    with pytest.raises(LabelError, match="begins like UTF-16 text but is damaged: save it as UTF-8"):
        read_labels_csv(tmp_path / "labels.csv")
    with pytest.raises(LabelError, match=r"cannot read .*none\.csv: No such file"):
        read_labels_csv(tmp_path / "none.csv")


def test_class_folders_are_read(tmp_path):
    for name in ("normal/b.mp4", "normal/deep/a.AVI", "abnormal/c.mkv", "abnormal/notes.txt", ".cache/x.mp4", "d.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [(i.file, i.start_s, i.end_s, i.label) for i in read_class_folders(tmp_path)] == [
        ("abnormal/c.mkv", 0, math.inf, "abnormal"),
        ("normal/b.mp4", 0, math.inf, "normal"),
        ("normal/deep/a.AVI", 0, math.inf, "normal"),
    ]
    assert find_labels(tmp_path) == read_class_folders(tmp_path)


@pytest.mark.parametrize(
    ("text", "stretches", "problems"),
    [
        ("Falling (SW)[3.4 to 6]; Sitting[0 to 3.4]", [("Falling (SW)", 3.4, 6), ("Sitting", 0, 3.4)], 0),
        ("Falling (SW)[1.8 to 5]:; Walking[0 to 1.8]", [("Falling (SW)", 1.8, 5), ("Walking", 0, 1.8)], 0),
        ("Falling (BW[5.9 to 10]; Walking[0 to 1]", [("Falling (BW", 5.9, 10), ("Walking", 0, 1)], 0),
        ("Falling (BW) [ 0 to 5] ; ", [("Falling (BW)", 0, 5)], 0),
        ("Falling (BW)[2.3 6]", [("Falling (BW)", 2.3, 6)], 0),
        (
            "Standing[2.4 to 3.6; 6.6 to 7.9; Walking[3.6 to 5.2]",
            [("Standing", 2.4, 3.6), ("Standing", 6.6, 7.9), ("Walking", 3.6, 5.2)],
            0,
        ),
        ("Reading; Sitting[0.8 to 8.1]", [("Sitting", 0.8, 8.1)], 1),
        ("Sitting[9.7 to 3]", [], 1),
        ("Sitting[3]", [], 1),
        ("[1 to 2]", [], 1),
        ("Falling (FW)", [], 1),
        ("", [], 0),
    ],
)
def test_the_hand_written_classes_of_gmdcsa24(text, stretches, problems):
    found, warnings = parse_classes(text)
    assert found == stretches
    assert len(warnings) == problems


def test_gmdcsa24_reports_what_it_cannot_read_and_leaves_such_a_fall_out(tmp_path):
    header = "File Name,Length (seconds),Time of Recording,Attire,Description, Classes\n"
    rows = "01.mp4,4,Day,Shirt,Walks, then falls, Falling (FW)[1 to 4]; Walking[0 to 1]\n"  # a comma too many
    rows += "02.mp4,4,Day,Shirt,Falls, Falling (FW); Sitting[0 to 1.7]\n03.mp4,4,Day,Shirt,Not here, Falling[0 to 1]\n"
    write(tmp_path / "Subject_7_Fall.csv", header + rows)
    for number in (1, 2, 4):
        (tmp_path / f"Subject_7_Fall_0{number}.mp4").touch()
    warnings: list[str] = []
    assert read_gmdcsa24(tmp_path, warn=warnings.append) == [
        Interval("Subject_7_Fall_01.mp4", 1, 4, "abnormal"),
        Interval("Subject_7_Fall_01.mp4", 0, 1, "normal"),
    ]
    assert [i.act for i in read_gmdcsa24(tmp_path, warn=warnings.append)] == ["Falling (FW)", "Walking"]
    del warnings[len(warnings) // 2 :]
    assert "Subject_7_Fall.csv row 3 (Subject_7_Fall_02.mp4): 'Falling (FW)' has no time" in warnings
    assert any("row 3 (Subject_7_Fall_02.mp4): no readable time" in line for line in warnings)
    assert "Subject_7_Fall.csv has no row for Subject_7_Fall_04.mp4, the video stays unlabelled" in warnings
    assert len(warnings) == 3
    # classes of other names follow the configuration
    config = LabelConfig(("adl", "fall"), positive="fall", default="adl")
    assert {i.label for i in find_labels(tmp_path, config, warnings.append)} == {"fall", "adl"}


def test_gmdcsa24_as_its_authors_publish_it(tmp_path: Path) -> None:
    header = "File Name,Length (seconds),Time of Recording,Attire,Description, Classes\n"
    for subject, sheet in (("Subject 1", "Fall"), ("Subject 1", "ADL"), ("Actor 3", "fall")):
        falls = sheet.lower() == "fall"
        folder = tmp_path / "GMDCSA24-main" / subject
        (folder / sheet.capitalize() if falls else folder / sheet).mkdir(parents=True)
        rows = (
            "01.mp4,4,Day,Shirt,What, Falling (FW)[1 to 4]; Walking[0 to 1]\n"
            if falls
            else "01.mp4,9,,,,Sitting[0 to 9]\n"
        )
        write(folder / f"{sheet}.csv", header + rows + "07.mp4,4,Day,Shirt,Not here, Walking[0 to 1]\n")
    for video in ("Subject 1/Fall/01.mp4", "Subject 1/ADL/01.mp4", "Subject 1/ADL/02.mp4", "Actor 3/Fall/01.mp4"):
        (tmp_path / "GMDCSA24-main" / video).touch()
    warnings: list[str] = []
    for folder, within in ((tmp_path, "GMDCSA24-main/"), (tmp_path / "GMDCSA24-main", "")):
        found = find_labels(folder, warn=warnings.append)
        assert {(i.file, i.start_s, i.end_s, i.label, i.act) for i in found} == {
            (f"{within}Actor 3/Fall/01.mp4", 1, 4, "abnormal", "Falling (FW)"),
            (f"{within}Actor 3/Fall/01.mp4", 0, 1, "normal", "Walking"),
            (f"{within}Subject 1/Fall/01.mp4", 1, 4, "abnormal", "Falling (FW)"),
            (f"{within}Subject 1/Fall/01.mp4", 0, 1, "normal", "Walking"),
            (f"{within}Subject 1/ADL/01.mp4", 0, 9, "normal", "Sitting"),
        }
    one = find_labels(tmp_path / "GMDCSA24-main" / "Actor 3")
    assert {i.file for i in one} == {"Fall/01.mp4"}
    assert warnings[0] == (
        "GMDCSA24-main/Subject 1/ADL.csv has no row for GMDCSA24-main/Subject 1/ADL/02.mp4, the video stays unlabelled"
    )
    assert len(warnings) == 2
    with pytest.raises(LabelError, match=r"^ADL\.csv is a csv of GMDCSA-24: import the folder that holds it"):
        find_labels(tmp_path / "GMDCSA24-main" / "Subject 1" / "ADL.csv")
    # class folders beside somebody's own table of that name stay class folders
    mine = tmp_path / "mine"
    (mine / "fall").mkdir(parents=True)
    (mine / "fall" / "a.mp4").touch()
    write(mine / "fall.csv", "file,start_s,end_s,label\na.mp4,0,1,fall\n")
    assert [i.label for i in find_labels(mine, LabelConfig(("normal", "fall"), positive="fall"))] == ["fall"]


@pytest.mark.skipif(not GMDCSA24.is_dir(), reason="the GMDCSA-24 videos are not beside this checkout")
def test_the_real_gmdcsa24_files_give_every_video_its_labels():
    warnings: list[str] = []
    found = find_labels(GMDCSA24, warn=warnings.append)
    videos = {path.name for path in GMDCSA24.glob("*.mp4")}
    assert {i.file for i in found} == videos
    assert {i.file for i in found if i.label == "abnormal"} == {name for name in videos if "Fall" in name}
    assert warnings == []


def test_a_workbook_is_to_be_saved_as_csv(tmp_path: Path) -> None:
    (tmp_path / "labels.xlsx").write_bytes(b"PK")
    for place in (tmp_path, tmp_path / "labels.xlsx"):
        with pytest.raises(LabelError, match=r"^labels\.xlsx is a workbook: save the sheet .* as CSV"):
            find_labels(place)


def test_a_project_of_boris_is_to_be_exported(tmp_path: Path) -> None:
    path = write(tmp_path / "yard.boris", '{"time_format": "hh:mm:ss", "observations": {}}')
    with pytest.raises(LabelError, match=r"yard\.boris is a project of BORIS: export its aggregated events as CSV"):
        find_labels(path)


def test_the_format_is_detected_or_named(tmp_path):
    with pytest.raises(LabelError, match=r"no labels in .*: expected labels\.csv .*class folders .*GMDCSA-24"):
        find_labels(tmp_path)
    path = write(tmp_path / "labels.csv", HEADER + "a.mp4,0,1,normal\n")
    assert find_labels(tmp_path) == find_labels(path) == [Interval("a.mp4", 0, 1, "normal")]


# clips of a.mp4: 0-3, 3-6, 6-9, 9-12
@pytest.mark.parametrize(
    ("intervals", "labels"),
    [
        ([(0, 12, "normal")], ["normal"] * 4),
        ([(0, 3.2, "normal"), (3.2, 6, "abnormal")], ["normal", "abnormal", None, None]),
        ([(0, 5.8, "normal"), (5.8, 12, "abnormal")], ["normal", "normal", "abnormal", "abnormal"]),
        ([(0, 5.5, "normal"), (5.5, 12, "abnormal")], ["normal", "abnormal", "abnormal", "abnormal"]),
        ([(0, 12, "normal"), (4, 4.2, "abnormal")], ["normal", "abnormal", "normal", "normal"]),
        ([(0, 12, "normal"), (5.9, 6.2, "abnormal")], ["normal", "normal", "abnormal", "normal"]),
        ([(5.8, 8, "abnormal")], [None, None, "abnormal", None]),
        ([(0, math.inf, "abnormal")], ["abnormal"] * 4),
        ([(4, 5, "Abnormal")], [None, "abnormal", None, None]),
        ([(12, 14, "normal")], [None] * 4),
        ([], [None] * 4),
    ],
)
def test_a_clip_gets_the_label_of_the_intervals_that_cover_it(make_clips, intervals, labels):
    clips = make_clips()
    found = assign(clips, [Interval("a.mp4", *i) for i in intervals], CONFIG)
    assert [found.get(e.clip.id) for e in clips] == labels


def test_of_several_events_the_one_that_covers_most_wins(make_clips):
    config = LabelConfig(("normal", "fall", "fight"), positive="fall")
    clips = make_clips(count=2)
    intervals = [("normal", 0, 6), ("fall", 0, 1), ("fight", 1, 3), ("fight", 3, 4), ("fall", 4, 5)]
    found = assign(clips, [Interval("a.mp4", start, end, label) for label, start, end in intervals], config)
    assert list(found.values()) == ["fight", "fall"]


def test_every_short_event_labels_a_clip(make_clips):
    clips = make_clips()
    for start in [0.05 * i for i in range(230)]:
        assert "abnormal" in assign(clips, [Interval("a.mp4", start, start + 0.1, "abnormal")], CONFIG).values()


def test_clips_shorter_than_the_least_overlap_can_be_abnormal(make_clips):
    clips = make_clips(count=2, length=0.4)
    assert list(assign(clips, [Interval("a.mp4", 0.2, 5, "abnormal")], CONFIG).values()) == ["abnormal", "abnormal"]


def test_files_match_by_path_or_by_its_end(make_clips):
    clips = [*make_clips("x/a.mp4", 1), *make_clips("y/a.mp4", 1), *make_clips("b.mp4", 1)]
    ids = [e.clip.id for e in clips]

    def given(*files: str) -> dict[str, str]:
        return assign(clips, [Interval(f, 0, 3, "normal", "labels.csv row 4") for f in files], CONFIG)

    assert list(given("x/a.mp4")) == ids[:1]
    assert list(given("data\\y\\a.mp4", "/data/footage/b.mp4")) == ids[1:]
    for file, message in {
        "a.mp4": "labels.csv row 4: 'a.mp4' could be any of x/a.mp4, y/a.mp4: give more of its path",
        "z/a.mp4": "labels.csv row 4: no video named 'z/a.mp4' among the 3 ingested",
        "B.mp4": "no video named 'B.mp4'",
    }.items():
        with pytest.raises(LabelError) as caught:
            given(file)
        assert message in str(caught.value)
    with pytest.raises(LabelError, match=r"'fall/b.mp4' and 'walk/b.mp4' both look like the video 'b.mp4'"):
        given("walk/b.mp4", "fall/b.mp4")


def test_a_video_has_every_name_that_its_content_came_under(make_clips):
    clips = make_clips("a.mp4", 1, names=("day1/a.mp4", "copies/b.mp4"))
    for file in ("day1/a.mp4", "b.mp4"):
        assert list(assign(clips, [Interval(file, 0, 3, "normal")], CONFIG).values()) == ["normal"]


def test_intervals_that_fit_nothing_are_refused(make_clips):
    clips = make_clips()
    with pytest.raises(LabelError, match=r"^labels.csv row 7: unknown class 'fallen' \(known: normal, abnormal\)$"):
        assign(clips, [Interval("a.mp4", 0, 1, "fallen", "labels.csv row 7")], CONFIG)
    with pytest.raises(LabelError, match=r"starts at 120 s, but the clips of 'a\.mp4' end at 12 s"):
        assign(clips, [Interval("a.mp4", 120, 130, "abnormal")], CONFIG)
    assert assign(clips, [Interval("short.mp4", 0, 1, "normal")], CONFIG, videos=["short.mp4"]) == {}


def test_an_import_is_events_and_a_second_one_changes_nothing(sqlite_store, make_clips):
    clips = make_clips()
    sqlite_store.register(clips)
    intervals = [Interval("a.mp4", 0, 4, "normal"), Interval("a.mp4", 4, 6, "abnormal")]
    assert import_labels(sqlite_store, clips, intervals, CONFIG) == ImportReport(2, 0, 2, 0)
    event = sqlite_store.current()[clips[1].clip.id]
    assert (event.new, event.source, event.who) == ("abnormal", "import", "import")
    assert import_labels(sqlite_store, clips, intervals, CONFIG) == ImportReport(0, 2, 2, 0)
    sqlite_store.set_label(clips[1].clip.id, "normal", "ann", "human")
    assert import_labels(sqlite_store, clips, intervals, CONFIG) == ImportReport(0, 1, 2, 1)
    assert sqlite_store.current()[clips[1].clip.id].who == "ann"


def test_an_import_that_fails_writes_nothing(sqlite_store, make_clips):
    clips = make_clips()
    sqlite_store.register(clips)
    intervals = [Interval("a.mp4", 0, 4, "normal"), Interval("b.mp4", 0, 4, "normal", "labels.csv row 3")]
    with pytest.raises(LabelError, match=r"no video named 'b\.mp4'"):
        import_labels(sqlite_store, clips, intervals, CONFIG)
    assert sqlite_store.current() == {}


def test_labels_by_clip(sqlite_store, make_clips, tmp_path):
    clips = make_clips()
    sqlite_store.register(clips)
    first, second = (e.clip.id for e in clips[:2])
    path = write(tmp_path / "clips.csv", f"clip_id,label\n{first},normal\n{second},abnormal\n")
    assert import_clip_labels(sqlite_store, path, CONFIG) == ImportReport(2, 0, 0, 0)
    assert sqlite_store.counts() == {"abnormal": 1, "normal": 1}
    bad = {
        f"clip_id,label\n{first},abnormal\nc-none,normal\n": "no such clip: c-none (registered: 4",
        f"clip_id,label\n{first},odd\n": "clips.csv row 2: unknown class 'odd'",
        f"clip_id,label\n{first},normal\n{first},abnormal\n": "row 3: clip",
        "clip,label\n": "no column 'clip_id': found clip, label",
        "clip_id,label\n": "has no labels",
    }
    for text, message in bad.items():
        with pytest.raises(LabelError) as caught:
            import_clip_labels(sqlite_store, write(path, text), CONFIG)
        assert message in str(caught.value)
    assert sqlite_store.counts() == {"abnormal": 1, "normal": 1}, "nothing of a bad file was taken"
