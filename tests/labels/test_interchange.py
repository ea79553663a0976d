"""Labels out to other tools and back in, with the same labels."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from posewatch.config import DatasetConfig, LabelConfig
from posewatch.datasets.pyskl import read_pyskl
from posewatch.errors import LabelError
from posewatch.labels.entries import BAD
from posewatch.labels.formats.clip_labels import has_clip_ids
from posewatch.labels.formats.clip_labels import read_clip_labels as read_clips
from posewatch.labels.formats.exporters import export
from posewatch.labels.formats.importers import import_clip_labels
from posewatch.labels.formats.rows import csv_text, unquoted
from posewatch.labels.formats.snapshot import snapshot
from posewatch.labels.notes import add_comment
from posewatch.labels.session import LabelingSession
from posewatch.labels.store import LabelStore
from posewatch.labels.team import audit, roles
from posewatch.records import Skeleton
from posewatch.store import FolderStore, open_store

CONFIG = LabelConfig()


def read_clip_labels(*args: Any) -> dict[str, str]:
    """The labels alone."""
    return {clip: given.label for clip, given in read_clips(*args).items()}


FILES = {"csv": "a.csv", "parquet": "a.parquet", "pyskl": "a.pkl", "folders": "classes", "labelstudio": "a.json"}


@pytest.fixture
def labelled(sqlite_store, make_clips, tmp_path):
    """Six clips of two videos, whose files are in a folder; four labelled, one bad, one not."""
    objects = FolderStore(tmp_path / "objects")
    clips = []
    for entry in (*make_clips("a.mp4", 3), *make_clips('b, "quoted".mp4', 3)):
        objects.put(entry.key, entry.clip.id.encode())
        clips.append(type(entry)(entry.clip, entry.names, entry.key, objects.uri))
    sqlite_store.register(clips)
    ids = [e.clip.id for e in clips]
    sqlite_store.set_labels({ids[0]: "normal", ids[1]: "abnormal", ids[3]: "normal"}, "ann", "human")
    sqlite_store.set_label(ids[4], "abnormal", "rev", "bulk", "m/1")
    sqlite_store.set_label(ids[5], BAD, "ann", "human")
    return ids


def poses(ids: list[str]) -> dict[str, Skeleton]:
    return {
        clip: Skeleton(np.full((1, 5, 17, 3), 0.5 + i / 10, np.float32), 10.0, 64, 48) for i, clip in enumerate(ids)
    }


def test_a_clip_that_a_person_moved_is_not_deleted(labelled, sqlite_store, tmp_path):
    out = tmp_path / "folders"
    export(sqlite_store, snapshot(sqlite_store), "folders", out, CONFIG)
    one = next(out.glob("normal/c-*.mp4"))
    moved = out / "sorted by me" / one.name
    moved.parent.mkdir()
    moved.write_bytes(one.read_bytes())
    with pytest.raises(LabelError, match="put there by somebody"):
        export(sqlite_store, snapshot(sqlite_store), "folders", out, CONFIG)
    assert moved.exists()
    export(sqlite_store, snapshot(sqlite_store), "folders", out, CONFIG, force=True)
    assert not moved.exists()


@pytest.mark.parametrize("form", FILES)
def test_every_format_comes_back_as_the_same_labels(form, labelled, sqlite_store, tmp_path):
    path = tmp_path / "out" / FILES[form]
    frozen = snapshot(sqlite_store)
    assert export(sqlite_store, frozen, form, path, CONFIG, poses(labelled)) == 4
    first = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
    export(sqlite_store, frozen, form, path, CONFIG, poses(labelled))
    assert {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()} == first, "the same bytes each time"
    assert has_clip_ids(path)
    wanted = {row["clip_id"]: row["label"] for row in frozen.rows}
    assert read_clip_labels(path, CONFIG) == wanted
    other = LabelStore(f"sqlite:///{tmp_path / 'other.db'}")
    other.register(sqlite_store.clips())
    assert import_clip_labels(other, path, CONFIG).set == 4
    assert {clip: event.new for clip, event in other.current().items()} == wanted
    assert {event.source for event in other.current().values()} == {"import"}
    other.close()


def test_labels_of_skeletons_of_any_layout_in_which_nobody_is_seen(tmp_path):
    """Only the labels are wanted of them: a layout of one's own needs no YAML file here."""
    rows = [
        {"frame_dir": f"c-{i}", "label": i, "keypoint": np.full((1, 5, 5, 2), 9.0 * i), "keypoint_score": score}
        for i, score in enumerate((np.zeros((1, 5, 5)), np.ones((1, 5, 5))))
    ]
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"annotations": rows, "classes": ["normal", "abnormal"], "layout": "hand"}))
    assert read_clip_labels(path, CONFIG) == {"c-0": "normal", "c-1": "abnormal"}


def test_annotations_say_which_videos_are_one_group(labelled, sqlite_store, tmp_path):
    def groups(given: DatasetConfig | None) -> set[str]:
        frozen, path = snapshot(sqlite_store), tmp_path / "a.pkl"
        export(sqlite_store, frozen, "pyskl", path, CONFIG, poses(labelled), grouped=given)
        return set(read_pyskl(path)[0].groups)

    videos = {clip.clip.video_id for clip in sqlite_store.clips()}
    assert groups(None) == groups(DatasetConfig()) == videos
    assert groups(DatasetConfig(groups={"*.mp4": "one"})) == {"one"}


@pytest.mark.parametrize("form", ["csv", "parquet", "labelstudio"])
def test_authors_come_back(form, labelled, sqlite_store, tmp_path):
    path = tmp_path / FILES[form]
    export(sqlite_store, snapshot(sqlite_store), form, path, CONFIG)
    other = LabelStore(f"sqlite:///{tmp_path / 'other.db'}")
    other.register(sqlite_store.clips())
    import_clip_labels(other, path, CONFIG)
    events = other.current()
    assert [events[labelled[i]].who for i in (0, 1, 3, 4)] == ["ann", "ann", "ann", "rev"]
    assert {event.source for event in events.values()} == {"import"}
    other.close()


def test_label_studio_gets_every_clip_and_no_account(labelled, sqlite_store, tmp_path):
    sqlite_store.set_label(labelled[0], "normal", "=bob", "human")
    config = LabelConfig(("normal", 'a "b" & <c>', "abnormal"))
    bundle = tmp_path / "for label studio"
    assert export(sqlite_store, snapshot(sqlite_store), "labelstudio", bundle, config) == 4
    tasks = {task["data"]["clip_id"]: task for task in json.loads((bundle / "tasks.json").read_text())}
    assert set(tasks) == set(labelled), "clips without a label go along, to be labelled there"
    assert [len(tasks[clip]["annotations"]) for clip in labelled] == [2, 1, 0, 1, 1, 0]
    assert not [one for task in tasks.values() for one in task["annotations"] if "completed_by" in one]
    for clip in labelled:
        assert (bundle / "clips" / f"{clip}.mp4").read_bytes() == clip.encode()
        assert tasks[clip]["data"]["video"] == f"/data/local-files/?d=clips/{clip}.mp4"
    choices = ElementTree.fromstring((bundle / "interface.xml").read_text()).findall(".//Choice")
    assert [choice.get("value") for choice in choices] == list(config.classes)

    sqlite_store.undo_event(sqlite_store.current()[labelled[1]], "ann", "x")
    empty = snapshot(sqlite_store, [labelled[1]], allow_none=True)
    assert export(sqlite_store, empty, "labelstudio", tmp_path / "none.json", CONFIG) == 0
    one = json.loads((tmp_path / "none.json").read_text())[0]
    assert one["data"]["video"].startswith("/data/local-files/?d=clips/")


def test_the_csv_holds_who_and_how(labelled, sqlite_store, tmp_path):
    export(sqlite_store, snapshot(sqlite_store), "csv", tmp_path / "a.csv", CONFIG)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = {row["clip_id"]: row for row in csv.DictReader(file)}
    row = rows[labelled[4]]
    assert (row["source"], row["who"], row["model_version"]) == ("bulk", "rev", "m/1")
    assert (row["video"], row["start_s"]) == ('b, "quoted".mp4', "3")


def test_a_spreadsheet_reads_the_csv_and_runs_nothing_of_it(sqlite_store, make_clips, tmp_path):
    """Excel takes a file without a byte order mark for CP949 (in Korea), and text that begins with = for a formula."""
    clips = make_clips("=HYPERLINK(1).mp4", 3)
    sqlite_store.register(clips)
    ids = [entry.clip.id for entry in clips]
    config = LabelConfig(("normal", "@fight"), "normal")
    for clip, who in zip(ids, ("김철수", "=cmd|' /C calc'!A0", "'=x"), strict=True):
        sqlite_store.set_label(clip, "@fight", who, "human", classes=config.classes)
        add_comment(sqlite_store, clip, "-ann", "+82 10", clip)
    export(sqlite_store, snapshot(sqlite_store), "csv", tmp_path / "a.csv", config)
    text = (tmp_path / "a.csv").read_bytes()
    assert text.startswith(b"\xef\xbb\xbfclip_id,")
    rows = [*csv.DictReader(text.decode("utf-8-sig").splitlines())]
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell[:1] in "=+-@\uff1d\t\r" and cell], cells
    assert {row["start_s"] for row in rows} == {"0", "3", "6"}
    read = read_clips(tmp_path / "a.csv", config)
    assert [(read[clip].label, read[clip].who) for clip in ids] == [
        ("@fight", "김철수"), ("@fight", "=cmd|' /C calc'!A0"), ("@fight", "'=x"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("plain", "plain"), ("", ""), (None, ""), (-5, "-5"), ("-5.5", "-5.5"), ("+3", "+3"), ("-2+3", "'-2+3"),
        ("a=b", "a=b"), (" =1", "' =1"), ("\t=1", "'\t=1"), ("＝1", "'＝1"), ("'=1", "''=1"), ("'it", "'it"),
        ("-", "'-"),
    ],
)  # fmt: skip
def test_formulas_are_quoted_and_come_back(text, cell):
    ((found,),) = list(csv.reader(csv_text(("a",), [{"a": text}]).splitlines()))[1:] or [("",)]
    assert found == cell
    assert unquoted(found) == str("" if text is None else text)


def test_class_folders_follow_a_label_that_changed(labelled, sqlite_store, tmp_path):
    export(sqlite_store, snapshot(sqlite_store), "folders", tmp_path / "out", CONFIG)
    sqlite_store.set_label(labelled[0], "abnormal", "ann", "human")
    export(sqlite_store, snapshot(sqlite_store), "folders", tmp_path / "out", CONFIG)
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.mp4")}
    wanted = {"normal": [labelled[3]], "abnormal": [labelled[0], labelled[1], labelled[4]]}
    assert found == {f"{label}/{clip}.mp4" for label, clips in wanted.items() for clip in clips}
    assert (tmp_path / "out" / "normal" / f"{labelled[3]}.mp4").read_bytes() == labelled[3].encode()


def test_what_cannot_be_exported_is_an_error(labelled, sqlite_store, tmp_path):
    frozen = snapshot(sqlite_store)
    with pytest.raises(LabelError, match="give the set of skeletons"):
        export(sqlite_store, frozen, "pyskl", tmp_path / "a.pkl", CONFIG)
    with pytest.raises(LabelError, match="none of the labelled clips has a skeleton"):
        export(sqlite_store, frozen, "pyskl", tmp_path / "a.pkl", CONFIG, {})
    entry = sqlite_store.clips()[0]
    open_store(entry.store).delete(entry.key)
    with pytest.raises(LabelError, match=f"clip {entry.clip.id} is not in"):
        export(sqlite_store, frozen, "folders", tmp_path / "out", CONFIG)
    wild = LabelConfig(("normal", "../up"), "../up")
    sqlite_store.set_label(labelled[0], "../up", "ann", "human", classes=wild.classes)
    with pytest.raises(LabelError, match="cannot be the name of a folder"):
        export(sqlite_store, snapshot(sqlite_store), "folders", tmp_path / "out", wild)
    assert not (tmp_path / "up").exists()


def test_label_studio_exports_with_several_annotators(sqlite_store, make_clips, tmp_path):
    ids = [e.clip.id for e in make_clips(count=3)]

    def task(clip: str, *labels: tuple[str, bool], cancelled: bool = False, **data: str) -> dict:
        result = [[{"type": "choices", "value": {"choices": [label]}}] for label, _ in labels]
        annotations = [
            {"result": r, "ground_truth": truth, "was_cancelled": cancelled}
            for r, (_, truth) in zip(result, labels, strict=True)
        ]
        return {
            "data": data or {"video": f"https://host/clips/{clip}.mp4?X-Amz-Signature=1"},
            "annotations": annotations,
        }

    path = tmp_path / "tasks.json"
    path.write_text(
        json.dumps(
            [
                task(ids[0], ("Normal", False), ("Normal", False)),
                task(ids[1], ("normal", False), ("abnormal", True)),
                task(ids[2], ("normal", False), cancelled=True),
            ]
        )
    )
    assert read_clip_labels(path, CONFIG) == {ids[0]: "normal", ids[1]: "abnormal"}
    path.write_text(json.dumps([task(ids[0], ("normal", False), ("abnormal", False))]))
    with pytest.raises(LabelError, match=f"tasks.json task 1: clip {ids[0]} is both 'normal' and 'abnormal'"):
        read_clip_labels(path, CONFIG)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "a.json is not readable JSON"),
        ("a.json", "{}", "is JSON of none of the tools"),
        ("a.json", '[{"data": {"clip_id": "c-1"}, "annotations": [{"result": [{"type": "choices"}]}]}]', "task 1: not"),
        ("a.json", "[]", "a.json has no labels"),
        ("a.csv", "clip_id,label\nc-1,dance\n", "a.csv row 2: unknown class 'dance'"),
        ("a.parquet", "no", "is not a readable Parquet file"),
        ("a.txt", "", "a.txt has no column 'clip_id': found nothing"),
        ("a.doc", "", "a.doc is not a label file"),
    ],
)
def test_files_that_are_wrong_are_refused_in_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(LabelError) as caught:
        read_clip_labels(tmp_path / name, CONFIG)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    import os

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"annotations": Evil()}))
    with pytest.raises(Exception, match=r"a\.pkl"):
        read_clip_labels(tmp_path / "a.pkl", CONFIG)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_audit_trail_holds_every_act_and_every_role(store, make_clips, tmp_path, suffix):
    clips = make_clips(count=2)
    store.register(clips)
    roles.set_role(store, "=cmd|' /C calc'!A0", "labeler", "operator")
    ann = LabelingSession(store, "=cmd|' /C calc'!A0")
    ann.label(clips[0].clip.id, "abnormal", "key")
    ann.label_remaining([e.clip.id for e in clips])
    ann.step("undo")
    path = tmp_path / f"audit{suffix}"
    assert audit.export(store, path) == 4
    rows = audit.trail(store)
    assert [row["act"] for row in rows] == ["grant", "key", "rest", "undo"]
    assert rows[3]["undoes"] == rows[2]["id"]
    text = path.read_bytes()
    if suffix == ".csv":
        assert b"'=cmd" in text, "a spreadsheet must not run a name"
    with pytest.raises(LabelError, match="is written as"):
        audit.export(store, tmp_path / "audit.xls")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("audit")) == [path.name]


def test_previews_are_small_silent_and_in_step_with_their_skeletons(tmp_path):
    video = pytest.importorskip("posewatch.video")
    pytest.importorskip("av")
    from posewatch.labels.previews import joints, shrink

    with video.Writer(tmp_path / "big.mp4", 10.0, (640, 360)) as out:
        for i in range(20):
            picture = np.zeros((360, 640, 3), np.uint8)
            picture[:, 30 * i : 30 * i + 40] = 255
            out.write(picture)
    size = shrink(tmp_path / "big.mp4", tmp_path / "small.mp4", 10.0)
    info = video.probe(tmp_path / "small.mp4")
    assert size == (info.width, info.height) == (320, 180)
    assert info.frames == 20
    first = Path(tmp_path / "small.mp4").read_bytes()
    shrink(tmp_path / "big.mp4", tmp_path / "small.mp4", 10.0)
    assert Path(tmp_path / "small.mp4").read_bytes() == first
    keypoints = np.zeros((2, 20, 17, 3), np.float32)
    keypoints[0] = (640, 180, 0.5)
    keypoints[1, 5:] = (0, 360, 1)
    found = json.loads(joints(Skeleton(keypoints, 10.0, 640, 360), size))
    assert (found["w"], found["h"], found["fps"], len(found["frames"])) == (320, 180, 10.0, 20)
    assert [len(frame) for frame in found["frames"]] == [1] * 5 + [2] * 15
    assert found["frames"][7][0][:6] == [320, 90, 50, 320, 90, 50]
    assert found["frames"][7][1][:3] == [0, 180, 100]
