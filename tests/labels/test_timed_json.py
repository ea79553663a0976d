"""Timed labels as JSON: ActivityNet's, as sets of actions are published, and Supervisely's, as its SDK writes it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.formats.clip_labels import has_clip_ids, read_clip_labels
from posewatch.labels.formats.importers import find_labels

CONFIG = LabelConfig()
CLIP = "c-0123456789abcdef"


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path


def found(path: Path, fps: float = 10.0, told: list[str] | None = None) -> list[tuple[Any, ...]]:
    intervals = find_labels(path, CONFIG, ([] if told is None else told).append, fps)
    return [(one.file, one.start_s, one.end_s, one.label) for one in intervals]


def segment(first: float, last: float, label: str = "abnormal") -> dict[str, Any]:
    return {"segment": [first, last], "label": label}


YARD = {"duration": 20.1, "subset": "training", "resolution": "320x240", "url": "", "annotations": [segment(1, 2.5)]}
HALL = {**YARD, "subset": "testing", "annotations": []}


@pytest.mark.parametrize(
    "data",
    [
        {"version": "VERSION 1.3", "taxonomy": [], "database": {"yard": YARD, "hall": HALL}},
        {"yard": {"duration_second": 20.1, "duration_frame": 603, "annotations": [segment(1, 2.5)], "fps": 30.0}},
        {"yard": {"annotations": segment(1, 2.5), "duration": 1.5, "subset": "train", "url": ""}},
    ],
    ids=["activitynet", "mmaction2", "kinetics"],
)
def test_segments_of_activitynets_json(data: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "train.json", data)
    assert not has_clip_ids(path)
    assert found(path) == [("yard", 1, 2.5, "abnormal")]


def test_a_clip_in_activitynets_json(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"database": {CLIP: YARD}})
    assert has_clip_ids(path)
    assert read_clip_labels(path, CONFIG)[CLIP].label == "abnormal"


def tag(name: str, frames: list[int] | None = None, **more: Any) -> dict[str, Any]:
    ranged = {} if frames is None else {"frameRange": frames}
    return {"name": name, **ranged, "isFinished": True, "nonFinalValue": False, "key": "058a", **more}


def supervisely(*tags: dict[str, Any], objects: Any = (), frames: Any = ()) -> dict[str, Any]:
    return {
        "size": {"height": 480, "width": 640}, "description": "", "key": "abef", "tags": [*tags],
        "objects": [*objects], "frames": [*frames], "framesCount": 100,
    }  # fmt: skip


def test_tags_and_objects_of_supervisely(tmp_path: Path) -> None:
    told: list[str] = []
    data = supervisely(
        tag("abnormal", [20, 49], labelerLogin="eve"),
        tag("event", [60, 60], value="Normal"),
        objects=[
            {"key": "7c74", "classTitle": "person", "tags": [tag("abnormal", [70, 79])]},
            {"key": "9b10", "classTitle": "abnormal", "tags": []},
        ],
        frames=[{"index": i, "figures": [{"key": "82", "objectKey": "9b10"}]} for i in (80, 81, 82, 90, 91)]
        + [{"index": 5, "figures": [{"key": "83", "objectKey": "7c74"}]}],
    )
    path = write(tmp_path / "yard.mp4.json", data)
    assert sorted(found(path, 10.0, told), key=lambda row: row[1]) == [
        *(("yard.mp4", 2, 5, "abnormal"), ("yard.mp4", 6, 6.1, "Normal"), ("yard.mp4", 7, 8, "abnormal")),
        *(("yard.mp4", 8, 8.3, "abnormal"), ("yard.mp4", 9, 9.2, "abnormal")),
    ]
    assert told == ["yard.mp4.json: left out what is labelled event, person, which is no class"]


def test_the_annotations_of_a_dataset_of_supervisely(tmp_path: Path) -> None:
    write(tmp_path / "yard.mp4.json", supervisely(tag("abnormal")))
    write(tmp_path / "hall.avi.json", supervisely(tag("normal", [0, 9])))
    write(tmp_path / "empty.mp4.json", supervisely())
    (tmp_path / "key_id_map.json").write_text("{}")
    assert found(tmp_path) == [("hall.avi", 0, 1, "normal"), ("yard.mp4", 0, math.inf, "abnormal")]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", {"database": {"yard": {"annotations": [{"label": "abnormal"}]}}}, "a.json yard: not an annotation"),
        ("a.json", {"database": {"yard": {"annotations": [segment(2, 2)]}}}, "a.json yard: not an annotation"),
        ("a.json", {"database": {"yard": {"annotations": 3}}}, "a.json yard: not an annotation"),
        ("a.json", {"database": {"yard": HALL}}, "a.json has no labels: nothing is labelled there yet"),
        ("a.json", {"database": {}}, "is JSON of none of the tools"),
        ("a.json", {"_via_settings": {}, "_via_img_metadata": {}}, "is JSON of none of the tools"),
        ("a.mp4.json", supervisely(tag("abnormal", [3])), "not an annotation of a video of Supervisely"),
        ("a.mp4.json", supervisely(tag("dance")), "none of its labels (dance) is one of"),
    ],
)
def test_what_cannot_be_read_is_one_line(name: str, data: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError) as caught:
        find_labels(write(tmp_path / name, data), CONFIG)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
