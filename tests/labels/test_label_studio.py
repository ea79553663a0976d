"""Exports of Label Studio as its converter (label_studio_sdk.converter) writes them, wherever the videos are stored."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.formats.clip_labels import has_clip_ids
from posewatch.labels.formats.clip_labels import read_clip_labels as read_clips
from posewatch.labels.formats.importers import find_labels

CONFIG = LabelConfig()


def read_clip_labels(*args: Any) -> dict[str, str]:
    """The labels alone."""
    return {clip: given.label for clip, given in read_clips(*args).items()}


A, B = "c-0123456789abcdef", "c-fedcba9876543210"


def answer(choice: str | list[str], question: str = "label") -> dict[str, Any]:
    choices = [choice] if isinstance(choice, str) else choice
    return {"from_name": question, "to_name": "video", "type": "choices", "value": {"choices": choices}}


def task(video: str, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    annotations = [{"id": 1, "was_cancelled": False, "completed_by": 1, "result": list(results)}]
    return {"id": 1, "data": {"video": video}, "annotations": annotations, **more}


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


PROXIED = base64.urlsafe_b64encode(f"s3://bucket/clips/{A}.mp4".encode()).decode()
ADDRESSES = [
    f"/data/upload/1/3f2a1b9c-{A}.mp4",
    f"https://label.example.org/data/upload/12/3f2a1b9c-{A}.mp4",
    f"/data/local-files/?d=clips/{A}.mp4",
    f"/data/local-files/?d=my%20clips%2F{A}.mp4",
    f"s3://bucket/clips/v-1/{A}.mp4",
    f"gs://bucket/{A}.MP4",
    f"https://host:9000/bucket/{A}.mp4?X-Amz-Signature=ab%2F1&X-Amz-Date=2",
    f"/tasks/12/resolve/?fileuri={PROXIED.rstrip('=')}",
    f"C:\\clips\\{A}.mp4",
    f"{A}.mp4",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_clip_is_found_by_the_name_of_its_file_wherever_it_is_stored(address: str, tmp_path: Path) -> None:
    path = write(tmp_path / "export.json", [task(address, answer("Abnormal"))])
    assert has_clip_ids(path)
    assert read_clip_labels(path, CONFIG) == {A: "abnormal"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_min_and_csv_exports(encoding: str, tmp_path: Path) -> None:
    about = {
        "annotator": 1,
        "annotation_id": 7,
        "created_at": "2026-01-01",
        "updated_at": "2026-01-01",
        "lead_time": 2.5,
    }
    rows = [
        {"id": 1, "video": ADDRESSES[0], "room": "hall", "label": "abnormal", **about},
        {"id": 2, "video": f"/data/local-files/?d={B}.mp4", "room": "yard", "label": "normal", **about},
        {"id": 2, "video": f"/data/local-files/?d={B}.mp4", "room": "yard", **about},  # seen, and not answered
    ]
    told: list[str] = []
    (tmp_path / "min.json").write_bytes(json.dumps(rows).encode(encoding))
    assert read_clip_labels(tmp_path / "min.json", CONFIG, told.append) == {A: "abnormal", B: "normal"}
    assert told == ["min.json: 1 of 3 tasks have no label, the first is min.json task 3"]
    for name, separator in (("export.csv", ","), ("export.tsv", "\t")):
        out = io.StringIO()
        table = csv.DictWriter(out, sorted({key for row in rows for key in row}), quoting=csv.QUOTE_NONNUMERIC,
                               delimiter=separator)  # fmt: skip
        table.writeheader()
        table.writerows(rows)
        (tmp_path / name).write_bytes(out.getvalue().encode(encoding))
        assert has_clip_ids(tmp_path / name)
        assert read_clip_labels(tmp_path / name, CONFIG) == {A: "abnormal", B: "normal"}


def test_several_choices_of_one_clip_are_refused_in_every_export(tmp_path: Path) -> None:
    both = [{"choices": ["normal", "abnormal"]}]
    for name, data in (
        ("raw.json", [task(ADDRESSES[0], answer(["normal", "abnormal"]))]),
        ("min.json", [{"id": 1, "video": ADDRESSES[0], "label": both, "annotation_id": 1}]),
    ):
        with pytest.raises(LabelError, match=rf"{name} task 1: clip {A} is both 'normal' and 'abnormal'"):
            read_clip_labels(write(tmp_path / name, data), CONFIG)


def test_of_several_questions_the_one_about_the_classes_counts(tmp_path: Path) -> None:
    told: list[str] = []
    two = [answer("good", "quality"), answer("abnormal", "what happens")]
    path = write(tmp_path / "a.json", [task(ADDRESSES[0], *two), task(f"{B}.mp4", answer("bad", "quality"))])
    assert read_clip_labels(path, CONFIG, told.append) == {A: "abnormal"}
    assert told == [
        "a.json: the answers to 'quality' are left out, those to 'what happens' are the labels",
        "a.json: 1 of 2 tasks have no label, the first is a.json task 2",
    ]
    same = [answer("normal", "first look"), answer("abnormal", "second look")]
    with pytest.raises(LabelError, match=r"a.json: several questions, first look, second look, ask for the classes"):
        read_clip_labels(write(path, [task(ADDRESSES[0], *same)]), CONFIG)
    with pytest.raises(
        LabelError, match=r"a.json: no question of quality, light asks for the classes normal, abnormal"
    ):
        read_clip_labels(write(path, [task(A + ".mp4", answer("good", "quality"), answer("dark", "light"))]), CONFIG)
    with pytest.raises(LabelError, match=r"a.json task 1: unknown class 'dance'"):
        read_clip_labels(write(path, [task(A + ".mp4", answer("dance"))]), CONFIG)


def test_cancelled_skipped_and_empty_annotations_are_no_labels(tmp_path: Path) -> None:
    told: list[str] = []
    cancelled, empty, older = task(f"{A}.mp4", answer("normal")), task(f"{B}.mp4"), task(f"{B}.mp4")
    cancelled["annotations"][0]["was_cancelled"] = True
    older["completions"] = [{"skipped": True, "result": None}, {"result": [answer("abnormal")]}]
    del older["annotations"]
    path = write(tmp_path / "a.json", [cancelled, empty, older])
    assert read_clip_labels(path, CONFIG, told.append) == {B: "abnormal"}
    assert told == ["a.json: 2 of 3 tasks have no label, the first is a.json task 1"]
    with pytest.raises(LabelError, match=r"a\.json has no labels"):
        read_clip_labels(write(path, [cancelled, empty]), CONFIG)


def test_tasks_that_show_whole_videos_label_them_from_beginning_to_end(tmp_path: Path) -> None:
    videos = [
        task("/data/upload/1/3f2a1b9c-CAM01.mp4", answer("abnormal")),
        task("s3://b/day/CAM02.avi", answer("normal")),
    ]
    path = write(tmp_path / "a.json", videos)
    assert not has_clip_ids(path)
    assert [(i.file, i.start_s, i.label, i.where) for i in find_labels(path, CONFIG)] == [
        ("CAM01.mp4", 0, "abnormal", "a.json task 1"),
        ("day/CAM02.avi", 0, "normal", "a.json task 2"),
    ]
    with pytest.raises(LabelError, match=r"'CAM01\.mp4' is no clip, but other tasks show clips"):
        read_clip_labels(write(path, [*videos, task(f"{A}.mp4", answer("normal"))]), CONFIG)


STRETCH = {"ranges": [{"start": 11, "end": 30}], "timelinelabels": ["abnormal"]}
"""A region of <TimelineLabels>, as Label Studio's documents have it (tags/timelinelabels)."""


REGION = {"from_name": "videoLabels", "to_name": "video", "type": "timelinelabels", "value": STRETCH}
SOUND = {"channel": 0, "start": 0.5, "end": 2.75, "labels": ["Abnormal", "normal"]}
"""A region of <Labels> on a video's sound, as the template "Video Timeline Segmentation" makes them."""
ABOUT = {"annotator": 1, "annotation_id": 1, "created_at": "2026-01-01", "lead_time": 2.5}
CAM01 = "/data/upload/1/3f2a1b9c-CAM01.mp4"


def as_csv(path: Path, row: dict[str, Any]) -> Path:
    """As ``label_studio_sdk.converter.exports.csv2`` writes it."""
    cells = {name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()}
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, sorted(cells), quoting=csv.QUOTE_NONNUMERIC)
        table.writeheader()
        table.writerow(cells)
    return path


def test_times_marked_on_a_timeline(tmp_path: Path) -> None:
    """Frames of TimelineLabels count from 1, and the last one belongs to the stretch; an open one ends as the video."""
    row = {"id": 1, "video": CAM01, **ABOUT, "videoLabels": [STRETCH]}
    files = [write(tmp_path / "raw.json", [task(CAM01, REGION)]), write(tmp_path / "min.json", [row])]
    for path in (*files, as_csv(tmp_path / "a.csv", row)):
        told: list[str] = []
        assert not has_clip_ids(path)
        (found,) = find_labels(path, CONFIG, told.append, 10.0)
        assert (found.file, found.start_s, found.end_s, found.label) == ("CAM01.mp4", 1.0, 3.0, "abnormal")
        assert told == [f"{path.name}: frames of the timelines count 10 a second (<Video frameRate> there, --fps here)"]
    several = {"ranges": [{"start": 1, "end": 1}, {"start": 21, "end": None}], "timelinelabels": ["normal", "dance"]}
    path = write(tmp_path / "b.json", [task(CAM01, REGION, {**REGION, "value": several})])
    told = []
    found = sorted((one.start_s, one.end_s, one.label) for one in find_labels(path, CONFIG, told.append, 10.0))
    assert found == [(0, 0.1, "normal"), (1, 3, "abnormal"), (2, math.inf, "normal")]
    assert told[-1] == "b.json: left out what is labelled dance, which is no class"
    cancelled = task(CAM01, REGION)
    cancelled["annotations"][0]["was_cancelled"] = True
    with pytest.raises(LabelError, match=r"a\.json has no labels: nothing is labelled there yet"):
        find_labels(write(tmp_path / "a.json", [cancelled]), CONFIG)
    path = write(tmp_path / "a.json", [task(CAM01, {**REGION, "value": {**several, "timelinelabels": ["dance"]}})])
    with pytest.raises(LabelError, match=r"none of its labels \(dance\) is one of normal, abnormal"):
        find_labels(path, CONFIG)
    path = write(tmp_path / "a.json", [task(CAM01, {**REGION, "value": {**STRETCH, "ranges": [{"start": "x"}]}})])
    with pytest.raises(LabelError, match=r"a\.json task 1: not a task"):
        find_labels(path, CONFIG)


def test_times_marked_on_the_sound_of_a_video(tmp_path: Path) -> None:
    region = {"from_name": "tricks", "to_name": "audio", "type": "labels", "original_length": 9.0, "value": SOUND}
    row = {"id": 1, "video": CAM01, **ABOUT, "tricks": [SOUND]}
    for path in (
        write(tmp_path / "raw.json", [task(CAM01, region)]),
        write(tmp_path / "min.json", [row]),
        as_csv(tmp_path / "a.csv", row),
    ):
        told: list[str] = []
        found = [(one.start_s, one.end_s, one.label) for one in find_labels(path, CONFIG, told.append, 10.0)]
        assert found == [(0.5, 2.75, "Abnormal"), (0.5, 2.75, "normal")]
        assert told == []


def test_times_marked_in_a_clip_label_the_clip(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [task(f"/data/upload/1/3f2a1b9c-{A}.mp4", REGION)])
    assert has_clip_ids(path)
    found = read_clips(path, CONFIG)[A]
    assert (found.label, found.who) == ("abnormal", "label-studio 1")


def test_answers_count_before_times_and_boxes_and_nothing_are_told(tmp_path: Path) -> None:
    video, region = CAM01, REGION
    box = {"from_name": "box", "to_name": "video", "type": "videorectangle", "value": {"sequence": [], "labels": ["x"]}}
    with pytest.raises(LabelError, match=r"^a\.json has no choices, only videorectangle: give times as a table"):
        find_labels(write(tmp_path / "a.json", [task(video, box)]), CONFIG)
    told: list[str] = []
    assert len(find_labels(write(tmp_path / "a.json", [task(video, region, answer("normal"))]), CONFIG, told.append))
    assert told == ["a.json: what is no choice (timelinelabels) is left out"]
    with pytest.raises(LabelError, match=r"a\.json has no labels: nothing is labelled there yet"):
        find_labels(write(tmp_path / "a.json", [task(video)]), CONFIG)


def labels_of(path: Path) -> dict[str, str]:
    return read_clip_labels(path, CONFIG) if has_clip_ids(path) else {}


@pytest.mark.parametrize(
    "data", [{"a": 1}, [1], [{"data": 1}], [{"data": {"video": 3}}], [{"id": 1}], [[]], ["data"], [None]]
)
def test_what_is_no_export_is_one_line(data: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", data)
    with pytest.raises(LabelError, match=r"is JSON of none of the tools|not a task with a choice") as raised:
        labels_of(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("annotation", "meta", "who"),
    [
        ({"completed_by": {"id": 3, "email": "eve@x.org"}}, None, "eve@x.org"),
        ({"completed_by": 3}, None, "eve@x.org"),  # another annotation tells whose number it is
        ({"completed_by": 9}, None, "label-studio 9"),
        ({}, None, ""),
        ({"completed_by": 3}, {"who": "ann", "label": "abnormal"}, "ann"),  # as exported, whoever imported it there
        ({"completed_by": 3, "updated_by": 9}, {"who": "ann", "label": "normal"}, "label-studio 9"),  # changed since
        ({"completed_by": 3}, {"who": 5}, "eve@x.org"),
        ({"completed_by": 3}, "x", "eve@x.org"),
    ],
)
def test_who_annotated(annotation: dict[str, Any], meta: Any, who: str, tmp_path: Path) -> None:
    result = {**answer("abnormal"), **({"meta": {"posewatch": meta}} if meta else {})}
    eve = {
        "id": 2,
        "data": {"video": f"{B}.mp4"},
        "annotations": [{"completed_by": {"id": 3, "email": "eve@x.org"}, "result": [answer("normal")]}],
    }
    one = {"id": 1, "data": {"video": f"{A}.mp4"}, "annotations": [{"result": [result], **annotation}]}
    assert read_clips(write(tmp_path / "export.json", [one, eve]), CONFIG)[A].who == who
