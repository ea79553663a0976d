"""Labels of single persons: files that name them, and the sets that hold them."""

from __future__ import annotations

import math

import pyarrow.parquet as pq
import pytest

from posewatch.config import LabelConfig
from posewatch.datasets.intervals import Interval, read_labels_csv
from posewatch.errors import InputError, LabelError
from posewatch.labels.formats.importers import assign, import_labels
from posewatch.labels.formats.snapshot import read_parquet, snapshot, write_parquet

CONFIG = LabelConfig()


def test_a_labels_csv_names_the_person_in_a_column_or_after_the_file(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(
        "file,start_s,end_s,label,person\n"
        "a.mp4,0,3,normal,\na.mp4,3,6,abnormal,2\na.mp4 #3,0,inf,normal,\na.mp4,6,7,abnormal,#1\n"
    )
    assert [(i.file, i.person) for i in read_labels_csv(path)] == [
        ("a.mp4", None), ("a.mp4", 2), ("a.mp4", 3), ("a.mp4", 1),
    ]  # fmt: skip
    for wrong in ("zero", "0", "-1", "1.5"):
        path.write_text(f"file,start_s,end_s,label,Person ID\na.mp4,0,3,normal,{wrong}\n")
        with pytest.raises(LabelError, match=r"row 2: person .* is not a number from 1"):
            read_labels_csv(path)


@pytest.fixture
def yard(make_clips):
    """Two persons in a yard, 6 s."""
    return [entry for person in (1, 2) for entry in make_clips("yard.mp4", 2, person=person)]


def labelled(clips, intervals, config=CONFIG, useless=None):
    labels = assign(clips, intervals, config, useless=useless)
    return {(e.clip.person, e.clip.start_s): labels.get(e.clip.id) for e in clips}


def test_an_event_labels_its_person_and_the_scene_is_normal_for_everybody(yard):
    given = [Interval("yard.mp4", 0, math.inf, "normal"), Interval("yard.mp4", 3, 5, "abnormal", person=2)]
    assert labelled(yard, given) == {(1, 0): "normal", (1, 3): "normal", (2, 0): "normal", (2, 3): "abnormal"}


def test_an_event_of_nobody_is_refused_where_there_are_several(yard):
    event = [Interval("yard.mp4", 3, 5, "abnormal", "labels.csv row 2")]
    with pytest.raises(LabelError, match=r"labels.csv row 2: 'abnormal' names no person, but at 3 s 'yard.mp4' shows"):
        labelled(yard, event)
    of_all = labelled(yard, event, LabelConfig(everybody=True))
    assert of_all == {(1, 0): None, (2, 0): None, (1, 3): "abnormal", (2, 3): "abnormal"}
    alone = [entry for entry in yard if entry.clip.person == 1 or entry.clip.start_s == 0]
    assert labelled(alone, event)[1, 3] == "abnormal", "only one is there"


def test_a_person_whom_the_video_does_not_have_is_told(yard):
    useless: list[str] = []
    labelled(yard, [Interval("yard.mp4", 0, 2, "abnormal", "row 2", person=7)], useless=useless)
    assert useless == ["row 2: 'yard.mp4' has no clip of a person 7"]


def test_a_snapshot_names_the_persons_and_never_mixes_units(store, make_clips, yard, tmp_path):
    scene = make_clips("yard.mp4", 2)
    store.register([*scene, *yard])
    import_labels(store, yard, [Interval("yard.mp4", 0, math.inf, "normal")], CONFIG)
    frozen = snapshot(store)
    assert frozen.unit == "person"
    assert {row["person"] for row in frozen.rows} == {1, 2}
    write_parquet(frozen, tmp_path / "labels.parquet")
    assert read_parquet(tmp_path / "labels.parquet") == frozen
    assert str(pq.read_schema(tmp_path / "labels.parquet").field("person").type) == "int64"
    import_labels(store, scene, [Interval("yard.mp4", 0, math.inf, "normal")], CONFIG)
    with pytest.raises(InputError, match="do not mix"):
        snapshot(store)
    assert snapshot(store, unit="person") == frozen
    assert snapshot(store, unit="scene").unit == "scene"
