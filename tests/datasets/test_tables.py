"""Text files and tables as people bring them."""

from __future__ import annotations

import codecs
import json
import math
from pathlib import Path

import pytest

from posewatch.config import load
from posewatch.datasets import layouts
from posewatch.datasets.intervals import Interval, read_labels_csv
from posewatch.datasets.tables import seconds, table
from posewatch.errors import ConfigError, InputError, LabelError
from posewatch.events.files import read_intervals, read_windows
from posewatch.sections import read_yaml
from posewatch.text import read_json, read_text

TEXT = "file,start_s,end_s,label,memo\na.mp4,0,4,abnormal,낙상\n"
WHOLE = [Interval("a.mp4", 0, 4, "abnormal")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp949", "euc-kr"])
def test_every_reader_takes_the_encodings_that_people_save(encoding: str, tmp_path: Path) -> None:
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""

    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_bytes(mark + text.encode(encoding))
        return tmp_path / name

    assert read_text(write("a.txt", TEXT)) == TEXT
    assert read_labels_csv(write("a.csv", TEXT)) == WHOLE
    assert len(read_intervals(write("b.csv", TEXT))) == 1
    assert (
        read_windows(write("w.jsonl", '{"video": "낙상.mp4", "start_s": 0, "end_s": 1, "p": 1}\n'))[0].video
        == "낙상.mp4"
    )
    assert read_json(write("a.json", '{"이름": "낙상"}')) == {"이름": "낙상"}
    assert read_yaml(write("a.yaml", "이름: 낙상\n")) == {"이름": "낙상"}
    described = json.loads(json.dumps(layouts.get("coco17").to_dict())) | {"name": "낙상"}
    assert layouts.from_yaml(write("l.yaml", json.dumps(described, ensure_ascii=False))).name == "낙상"


@pytest.mark.parametrize(
    "data",
    [
        "naïve,Grün,größe,été\n".encode("latin-1"),
        "Ärger Öl Übung\n".encode("cp1252"),
        "正常,打架,跌倒\n".encode("gbk"),
        "転倒,異常,テスト\n".encode("shift-jis"),
        "正常\n".encode("cp949"),
        "Падение\n".encode("cp1251"),
        "file,label\n".encode("utf-16-le"),
        b"\xff\xfea",
        b"\xef\xbb\xbfa\xff",
        b"caf\xe9\n",
    ],
)
def test_what_is_not_certain_is_refused_with_the_remedy(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    (tmp_path / "a.yaml").write_bytes(data)
    for read, error in (
        (read_labels_csv, LabelError), (read_intervals, LabelError), (read_json, InputError),
    ):  # fmt: skip
        with pytest.raises(error, match=r"a\.csv .*: save it as UTF-8") as raised:
            read(tmp_path / "a.csv")
        assert "\n" not in str(raised.value)
    for name, reads in (("a configuration", load), ("a layout", layouts.from_yaml)):
        with pytest.raises(InputError, match="save it as UTF-8"):
            reads(str(tmp_path / "a.yaml"))
        assert name
    with pytest.raises(ConfigError, match="save it as UTF-8"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "file;start_s;end_s;label\na.mp4;0;4;abnormal\n",
        "sep=;\nfile;start_s;end_s;label\na.mp4;0,0;4,0;abnormal\n",
        '"sep=;"\r\nfile;start_s;end_s;label\r\na.mp4;0,000;4,000;abnormal\r\n',
        "file\tstart_s\tend_s\tlabel\na.mp4\t0\t4\tabnormal\n",
        "file|start_s|end_s|label\na.mp4|0|4|abnormal\n",
        "FILE,Start_S,END_S,Label\na.mp4,0,4,abnormal\n",
        "File , Start (s), End (s),Class\na.mp4,0,4,abnormal\n",
        "File Name,Start Time,End Time,Category\na.mp4,0,4,abnormal\n",
        "파일,시작,끝,라벨\na.mp4,0,4,abnormal\n",
        'file,start_s,end_s,label\n"a.mp4","0","4,0","abnormal"\n',
        "file,start_s,end_s,label\r\na.mp4,00:00,00:04,abnormal\r\n",
        "file,start_s,end_s,label\ra.mp4,0:00:00,0:00:04.0,abnormal\r",
        "\n,,,\nfile,start_s,end_s,label\na.mp4,0 s,4 sec,abnormal\n,,,\n",
        'file,start_s,end_s,label,memo\na.mp4,0,4,abnormal,"one; two; three;\nfour; five"\n',
    ],
)
def test_a_table_is_read_like_a_person_would(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(text.encode())
    assert read_labels_csv(tmp_path / "labels.csv") == WHOLE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("12.5", 12.5), ("12,5", 12.5), (" 1e3 ", 1000), ("inf", math.inf), ("1:30", 90), ("1:3,25", 63.25),
        ("1:30.25", 90.25), ("00:01:30", 90), ("1:01:30.5", 3690.5), ("90:00", 5400), ("4s", 4), ("4 초", 4),
        (4.5, 4.5),
    ],
)  # fmt: skip
def test_times(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "1:75", "1:61:00", "1:2:3:4", "4 m", "1.234,5", "1,2,3", "-1:00", None, "abc"])
def test_what_is_no_time(text: str | None) -> None:
    with pytest.raises(ValueError):
        seconds(text)


def test_a_thousand_or_a_thousandth_is_asked_back(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text('file,start_s,end_s,label\na.mp4,0,"1,234",normal\n')
    with pytest.raises(LabelError, match=r"row 2: end_s must be a number of seconds, not '1,234' \(12.5, 1:30"):
        read_labels_csv(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    "text",
    [
        "Observation id\tMedia file\tFPS\tSubject\tBehavior\tBehavioral category\tBehavior type\tStart (s)\tStop (s)\n"
        "one\t/videos/a.mp4\t25.0\tNo focal subject\tabnormal\t\tSTATE\t1.800\t8.125\n",
        "Observation id,Subject,Behavior,Behavioral category,Modifier #1,Behavior type,Start (s),Stop (s),Duration (s),"
        "Media file name,Comment start\none,,abnormal,,,STATE,1.800,8.125,6.325,/videos/a.mp4,\n",
    ],
)
def test_aggregated_events_of_boris(text: str, tmp_path: Path) -> None:
    """With the header of version 7 (its tests/files) and of version 9 (export_events.py)."""
    path = tmp_path / "events.tsv"
    path.write_text(text)
    assert read_labels_csv(path) == [Interval("/videos/a.mp4", 1.8, 8.125, "abnormal")]


BORIS = (
    "Observation id,Observation date,Description,Observation type,Source,Time offset (s),Coding duration,"
    "Media duration (s),FPS (frame/s),Subject,Observation duration by subject by observation,Behavior,"
    "Behavioral category,Behavior type,Start (s),Stop (s),Duration (s),Media file name,Image index start,"
    "Image index stop,Image file path start,Image file path stop,Comment start,Comment stop\n"
)


def boris(kind: str, start: float, stop: float, file: str = "a.mp4", source: str = "player #1:a.mp4") -> str:
    lengths = ";".join(["600.000", "300.000"][: source.split("|")[0].count(";") + 1])
    return (
        f"one,2026-10-01 10:00:00,,Media file,{source},0.0,600.000,{lengths}|9.000,25.000,No focal subject,,abnormal,"
        f"Not defined,{kind},{start:.3f},{stop:.3f},NA,{file},,,,,,\n"
    )


def test_point_events_of_boris_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    told: list[str] = []
    path.write_text(BORIS + boris("STATE", 1, 2) + boris("POINT", 3, 3))
    assert read_labels_csv(path, told.append) == [Interval("a.mp4", 1, 2, "abnormal")]
    assert told == ["events.csv: point events have no length and label nothing: row 3 (abnormal)"]
    path.write_text(BORIS + boris("POINT", 3, 3))
    with pytest.raises(LabelError, match=r"row 2 \(abnormal\) \(code the classes as state events\)"):
        read_labels_csv(path)


def test_files_of_a_boris_observation_that_follow_each_other(tmp_path: Path) -> None:
    """Times count from the first file on: at 610 s the second one, which is named, has played for 10."""
    path = tmp_path / "events.csv"
    source = "player #1:/v/a.mp4;/v/b.mp4|player #2:/v/side.mp4"
    rows = [boris("STATE", 5, 9, "/v/a.mp4", source), boris("STATE", 610, 620, "/v/b.mp4", source)]
    path.write_text(BORIS + "".join(rows) + boris("STATE", 590, 605, "/v/a.mp4", source))
    assert read_labels_csv(path) == [
        *(Interval("/v/a.mp4", 5, 9, "abnormal"), Interval("/v/b.mp4", 10, 20, "abnormal")),
        *(Interval("/v/a.mp4", 590, 600, "abnormal"), Interval("/v/b.mp4", 0, 5, "abnormal")),
    ]
    path.write_text(BORIS + rows[1].replace("600.000;300.000|9.000", ""))
    with pytest.raises(LabelError, match="row 2: the lengths of the 2 files are not told"):
        read_labels_csv(path)


def test_rows_are_numbered_as_a_spreadsheet_does(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sep=;\nfile;label\n\na;b\n")
    rows = list(table(tmp_path / "a.csv", ("file", "label")))
    assert [(row.number, row["file"], row.separator) for row in rows] == [(4, "a", ";")]


def test_windows_with_decimal_commas(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("Video;Start;End;Probability\na;0,5;0:01,5;0,87\n")
    window = read_windows(tmp_path / "w.csv")[0]
    assert (window.start_s, window.end_s, window.p) == (0.5, 1.5, 0.87)
