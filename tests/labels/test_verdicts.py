"""Verdicts on alarm records: who may, what counts, undo, two operators at once, retention."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from posewatch import alarms
from posewatch.artifact import Job, produce
from posewatch.errors import LabelError, NotAllowed, NotFound
from posewatch.labels import verdicts
from posewatch.labels.db import tables
from posewatch.labels.store import LabelStore
from posewatch.labels.team import audit, roles
from posewatch.store import FolderStore


def _record(store: FolderStore, number: str) -> alarms.AlarmRecord:
    began = datetime(2026, 3, 1, 9, tzinfo=UTC)
    about = {
        "kind": "alarm", "id": number, "camera": "door", "person": 2, "began": began.isoformat(),
        "model": {"release": "r1"},
    }  # fmt: skip
    prefix = alarms.key_of("door", began, number)
    job = Job("alarms", "door", {}, fixed_prefix=prefix)
    produce(store, job, lambda folder: (folder / alarms.ABOUT).write_text(json.dumps(about)))
    return alarms.read(store, prefix)


@pytest.fixture
def records(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects")


@pytest.fixture
def labels(url: str) -> Iterator[LabelStore]:
    store = LabelStore(url)
    for who, role in (("op", "operator"), ("eva", "operator"), ("lab", "labeler"), ("rev", "reviewer")):
        roles.set_role(store, who, role, "test")
    yield store
    store.close()


def test_the_last_verdict_counts_and_can_be_taken_back(labels: LabelStore, records: FolderStore) -> None:
    record = _record(records, "a")
    first = verdicts.judge(labels, record, "false", "op", "1", note="a dog")
    assert verdicts.judge(labels, record, "false", "op", "1", note="a dog") == first  # a lost answer
    second = verdicts.judge(labels, record, "true", "rev", "2")
    assert verdicts.current(labels) == {"a": second}
    assert (second.camera, second.version, second.kind) == ("door", "r1", "alarm")
    with pytest.raises(LabelError, match="op has no verdict on this alarm to take back: it is rev's"):
        verdicts.undo(labels, "a", "op", "3")
    undone = verdicts.undo(labels, "a", "rev", "4")
    assert verdicts.undo(labels, "a", "rev", "4") == undone
    assert verdicts.current(labels, ["a", "b"])["a"] == first
    verdicts.undo(labels, "a", "op", "5")
    assert verdicts.current(labels) == {}
    assert [v.verdict for v in verdicts.history(labels, "a")] == ["false", "true", None, None]
    assert verdicts.history(labels, "a")[0].note == "a dog"
    acts = [(r["act"], r["who"], r["new"]) for r in audit.trail(labels) if r["clip_id"] == "a"]
    assert acts == [
        ("verdict", "op", "false"), ("verdict", "rev", "true"), ("undo verdict", "rev", None),
        ("undo verdict", "op", None),
    ]  # fmt: skip


def test_who_may_judge(labels: LabelStore, records: FolderStore) -> None:
    record = _record(records, "a")
    with pytest.raises(NotAllowed, match="lab is a labeler, and this needs the role operator"):
        verdicts.judge(labels, record, "true", "lab", "1")
    with pytest.raises(NotAllowed, match="posewatch labels role nobody operator"):
        verdicts.judge(labels, record, "true", "nobody", "2")
    assert not any(roles.may("operator", what) for what in ("label", "see others", "accept", "audit", "grant"))
    assert roles.may("admin", roles.JUDGE)
    with pytest.raises(LabelError, match="a verdict is one of true, false, unsure, not_a_person"):
        verdicts.judge(labels, record, "maybe", "op", "3")
    with pytest.raises(LabelError, match="at most 10,000 characters"):
        verdicts.judge(labels, record, "true", "op", "4", note="x" * 10_001)


def test_of_two_operators_at_once_one_is_told(labels: LabelStore, records: FolderStore) -> None:
    record, outcomes = _record(records, "a"), []

    def act(who: str) -> None:
        try:
            outcomes.append(verdicts.judge(labels, record, "true", who, who, seen=0).who)
        except LabelError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=act, args=(who,)) for who in ("op", "eva")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (told,) = (text for text in outcomes if "faster" in text)
    (winner,) = (text for text in outcomes if "faster" not in text)
    assert told == f"somebody else was faster: {winner} said true (look again)"
    assert len(verdicts.history(labels, "a")) == 1


def test_a_judged_record_outlives_retention_and_a_deleted_one_takes_no_verdict(
    labels: LabelStore, records: FolderStore
) -> None:
    kept, gone = _record(records, "a"), _record(records, "b")
    verdicts.judge(labels, kept, "not_a_person", "op", "1")
    assert alarms.prune(records, date(2026, 4, 1)) == [gone.prefix]
    with pytest.raises(NotFound, match="was deleted by retention"):
        verdicts.judge(labels, gone, "true", "op", "2")
    assert set(verdicts.current(labels)) == {"a"}


def test_the_database_keeps_what_was_said(labels: LabelStore, records: FolderStore) -> None:
    verdicts.judge(labels, _record(records, "a"), "true", "op", "1")
    verdicts.look(labels, "a", "op", "2")
    verdicts.look(labels, "a", "op", "2")  # the browser has sent it again
    assert [row["who"] for row in verdicts.trail(labels) if row["act"] == "raw"] == ["op"]
    table, looks = tables.verdicts, tables.alarm_looks
    changes = (table.update().values(verdict="false"), looks.update().values(who="x"))
    for statement in (table.delete(), looks.delete(), *changes):
        with pytest.raises(LabelError, match="append-only"):
            labels.database.execute(statement)
    assert labels.database.rows(sa.select(tables.verdicts.c.verdict)) == [("true",)]
