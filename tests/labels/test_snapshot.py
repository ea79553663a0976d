from __future__ import annotations

from collections import Counter

import pyarrow.parquet as pq
import pytest
from label_stores import undo

from posewatch.errors import LabelError
from posewatch.labels.entries import ADJUDICATE, BAD
from posewatch.labels.formats.snapshot import COLUMNS, read_parquet, snapshot, write_parquet
from posewatch.labels.store import LabelStore


def test_the_same_labels_give_the_same_bytes_whatever_their_history(tmp_path, url, make_clips):
    clips = make_clips()
    straight, crooked = LabelStore(url), LabelStore(f"sqlite:///{tmp_path / 'crooked.db'}")
    straight.register(clips)
    crooked.register(reversed(clips))
    ids = [e.clip.id for e in clips]
    straight.set_labels({ids[0]: "normal", ids[1]: "abnormal"}, "ann", "human")
    crooked.set_label(ids[1], "normal", "ann", "human")
    crooked.set_label(ids[1], "abnormal", "ann", "human")
    crooked.set_label(ids[2], "abnormal", "ann", "human")
    undo(crooked, ids[2], "ann")
    crooked.set_label(ids[0], "normal", "ann", "human")
    for name, store in (("a", straight), ("b", crooked)):
        write_parquet(snapshot(store), tmp_path / "out" / f"{name}.parquet")
        store.close()
    a, b = (tmp_path / "out" / f"{name}.parquet" for name in "ab")
    assert a.read_bytes() == b.read_bytes()
    back = read_parquet(a)
    assert pq.read_table(a).column_names == list(COLUMNS)
    assert [row["clip_id"] for row in back.rows] == sorted(ids[:2])
    assert {row["label"] for row in back.rows if row["clip_id"] == ids[1]} == {"abnormal"}
    assert Counter(row["label"] for row in back.rows) == {"abnormal": 1, "normal": 1}
    assert sorted(p.name for p in a.parent.iterdir()) == ["a.parquet", "b.parquet"], "nothing half-written stays"


def test_another_label_gives_another_digest(sqlite_store, make_clips):
    clips = make_clips()
    sqlite_store.register(clips)
    first, second = (e.clip.id for e in clips[:2])
    sqlite_store.set_label(first, "normal", "ann", "human")
    before = snapshot(sqlite_store)
    sqlite_store.set_label(second, "normal", "net", "model", "m/1")
    assert snapshot(sqlite_store).digest != before.digest
    assert snapshot(sqlite_store, exclude_sources=("model",)) == before
    assert snapshot(sqlite_store, [first]) == before
    sqlite_store.set_label(first, "abnormal", "ann", "human")
    assert snapshot(sqlite_store, [first]).digest != before.digest


def test_a_snapshot_waits_for_decisions_unless_told_otherwise(store, make_clips):
    clips = make_clips()
    store.register(clips)
    first, second, third, fourth = (e.clip.id for e in clips)
    for who, label in (("ann", "normal"), ("bob", "abnormal"), ("cat", "normal")):
        store.set_label(first, label, who, "human")
    store.set_label(second, "normal", "ann", "human")
    store.set_label(second, "abnormal", "bob", "human")
    store.set_label(third, BAD, "ann", "human")
    store.set_label(fourth, "normal", "ann", "human")
    with pytest.raises(LabelError, match=r"people disagree on 2 clips, the first is .*--allow-disagreement"):
        snapshot(store)
    assert [row["clip_id"] for row in snapshot(store, [third, fourth]).rows] == [fourth], "marks never reach it"
    rows = {row["clip_id"]: row["label"] for row in snapshot(store, allow_disagreement=True).rows}
    assert rows == {first: "normal", second: "abnormal", fourth: "normal"}, "most people, the latest of a tie"
    store.set_labels({first: "abnormal", second: "normal"}, "rev", "human", act=ADJUDICATE)
    assert Counter(row["label"] for row in snapshot(store).rows) == {"abnormal": 1, "normal": 2}


def test_nothing_to_freeze_is_an_error(sqlite_store, make_clips):
    clips = make_clips()
    sqlite_store.register(clips)
    with pytest.raises(LabelError, match="none of the 4 clips is labelled"):
        snapshot(sqlite_store)
    sqlite_store.set_label(clips[0].clip.id, "normal", "ann", "human")
    with pytest.raises(LabelError, match="none of the 1 clips"):
        snapshot(sqlite_store, [clips[1].clip.id])
    with pytest.raises(LabelError, match="no such clip: c-none"):
        snapshot(sqlite_store, ["c-none"])


def test_a_snapshot_that_is_missing_foreign_or_changed_is_refused(tmp_path, sqlite_store, make_clips):
    clips = make_clips()
    sqlite_store.register(clips)
    sqlite_store.set_label(clips[0].clip.id, "normal", "ann", "human")
    path = tmp_path / "labels.parquet"
    with pytest.raises(LabelError, match="no such label snapshot"):
        read_parquet(path)
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(LabelError, match="is not a readable Parquet file"):
        read_parquet(path)
    write_parquet(snapshot(sqlite_store), path)
    table = pq.read_table(path)
    changed = table.set_column(2, "label", [["abnormal"]]).replace_schema_metadata(table.schema.metadata)
    pq.write_table(changed, path)
    with pytest.raises(LabelError, match="was changed after it was written"):
        read_parquet(path)
    pq.write_table(table.select(["clip_id"]), path)
    with pytest.raises(LabelError, match="is not a label snapshot"):
        read_parquet(path)
