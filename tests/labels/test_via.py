"""Projects of VGG Image Annotator 3 as its video annotator saves them (via-3.x.y, data_format_version 3.1.1)."""

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
TEXT, RADIO = 1, 3


def project(metadata: dict[str, Any], *files: str) -> dict[str, Any]:
    names = files or ("yard.mp4", "hall.mp4")
    about = {"pid": "__VIA_PROJECT_ID__", "rev": "1", "data_format_version": "3.1.1", "vid_list": ["1", "2"]}
    attribute = {"desc": "", "default_option_id": ""}
    return {
        "project": about,
        "config": {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}},
        "attribute": {
            "1": {**attribute, "aname": "TEMPORAL-SEGMENTS", "anchor_id": "FILE1_Z2_XY0", "type": TEXT, "options": {}},
            "2": {**attribute, "aname": "act", "anchor_id": "FILE1_Z2_XY0", "type": RADIO,
                  "options": {"0": "normal", "1": "abnormal"}},
        },
        "file": {str(i): {"fid": i, "fname": name, "type": 4, "loc": 1, "src": ""} for i, name in enumerate(names, 1)},
        "view": {str(i): {"fid_list": [i]} for i, _ in enumerate(names, 1)},
        "metadata": metadata,
    }  # fmt: skip


def segment(video: str, times: list[float], av: dict[str, str], xy: list[float] | None = None) -> dict[str, Any]:
    return {"vid": video, "flg": 0, "z": times, "xy": xy or [], "av": av}


def test_segments_options_and_whole_videos(tmp_path: Path) -> None:
    metadata = {
        "1_yn55XtFN": segment("1", [2.19215, 4.5], {"1": "Abnormal"}),
        "1_vLf9kBXH": segment("1", [6, 7.25], {"2": "1"}),
        "2_mAqPTQBs": segment("2", [], {"2": "0", "1": ""}),
        "2_cat": segment("2", [1, 2], {"1": "cat"}),
        "2_frame": segment("2", [1.5], {"2": "1"}),
        "2_region": segment("2", [1.5], {"2": "1"}, [2, 10.0, 10.0, 5.0, 5.0]),
    }
    path = tmp_path / "project.json"
    path.write_text(json.dumps(project(metadata)))
    told: list[str] = []
    assert not has_clip_ids(path)
    found = [(one.file, one.start_s, one.end_s, one.label) for one in find_labels(path, CONFIG, told.append)]
    assert found == [
        ("yard.mp4", 2.19215, 4.5, "Abnormal"),
        ("yard.mp4", 6, 7.25, "abnormal"),
        ("hall.mp4", 0, math.inf, "normal"),
    ]
    assert told == ["project.json: left out what is labelled cat, which is no class"]


def test_a_file_that_is_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "project.json"
    path.write_text(json.dumps(project({"1_a": segment("1", [0.5, 1], {"2": "1"})}, "c-0123456789abcdef.mp4")))
    assert has_clip_ids(path)
    assert read_clip_labels(path, CONFIG)["c-0123456789abcdef"].label == "abnormal"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "nothing is labelled there yet"),
        ({"1_a": segment("9", [0, 1], {"2": "1"})}, r"project.json 1_a: not a segment of VIA 3"),
        ({"1_a": segment("1", ["x", 1], {"2": "1"})}, r"project.json 1_a: not a segment of VIA 3"),
        ({"1_a": 3}, r"project.json 1_a: not a segment of VIA 3"),
    ],
)
def test_what_cannot_be_read_is_one_line(metadata: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "project.json"
    path.write_text(json.dumps(project(metadata)))
    with pytest.raises(LabelError, match=message):
        find_labels(path, CONFIG)
