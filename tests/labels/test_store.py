from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from label_stores import undo

from posewatch.errors import LabelError
from posewatch.labels.db import schema
from posewatch.labels.entries import fold
from posewatch.labels.store import LabelStore
from posewatch.records import LabelEvent

WRITER = """
import sys
from posewatch.labels.store import LabelStore
store, clips = LabelStore(sys.argv[1]), sys.argv[3:]
print("open", flush=True)
sys.stdin.readline()
for i in range(10_000):
    label = ("normal", "abnormal")[i // len(clips) % 2]
    event = store.set_label(clips[i % len(clips)], label, sys.argv[2], "human")
    if event:
        print(event.clip_id, event.new, flush=True)
    if sys.argv[2].startswith("short") and i == 79:
        break
"""


def test_clips_are_registered_once_and_read_back_equal(store, make_clips):
    a, b = make_clips("a.mp4", 3), make_clips("b.mp4", 2, 1.7)
    store.register([*b, *a])
    store.register(a)
    assert store.clips() == [*a, *b]
    assert store.clips(b[0].clip.video_id) == b
    assert [(v.name, v.clips, v.labelled) for v in store.videos()] == [("a.mp4", 3, 0), ("b.mp4", 2, 0)]


def test_clips_of_persons_stand_beside_each_other(store, make_clips):
    """And beside those of the scene, which have no person in the database."""
    scene, one, two = (make_clips("a.mp4", 2, person=person) for person in (None, 1, 2))
    store.register([*two, *scene, *one])
    store.register(one)
    assert store.clips() == [scene[0], one[0], two[0], scene[1], one[1], two[1]]
    assert [entry.shown for entry in store.clips()[:3]] == ["a.mp4", "a.mp4 #1", "a.mp4 #2"]
    nobody = sa.select(sa.func.count()).where(sa.column("person").is_(None)).select_from(sa.table("clips"))
    assert store.database.rows(nobody)[0][0] == 2


def test_half_of_a_character_is_refused_in_one_line(store, make_clips):
    """From a shell's argument that is not UTF-8, say."""
    (entry,) = make_clips(count=1)
    store.register([entry])
    with pytest.raises(LabelError, match=r"no database takes half of a character \('ann\\udc80'\)"):
        store.set_label(entry.clip.id, "normal", "ann\udc80", "human")
    assert not store.current()


def test_registering_again_takes_the_new_place_and_names(store, make_clips):
    store.register(make_clips("a.mp4", 1))
    moved = make_clips("a.mp4", 1, names=("a.mp4", "copies/a.mp4"))
    store.register(moved)
    assert store.clips() == moved


def test_the_current_label_is_a_fold_over_the_events(store, make_clips):
    clips = make_clips(count=3)
    store.register(clips)
    first, second, third = (e.clip.id for e in clips)
    assert store.set_label(first, "normal", "ann", "human").old is None
    assert store.set_label(first, "normal", "ann", "human") is None, "the same label again is no event"
    assert store.set_label(first, "abnormal", "ann", "human").old == "normal"
    store.set_label(second, "normal", "file", "import")
    assert store.counts() == {"abnormal": 1, "normal": 1}
    assert store.counts([first]) == {"abnormal": 1}
    assert set(store.current()) == {first, second}
    taken = undo(store, first, "bob")
    assert (taken.old, taken.new, taken.who) == ("abnormal", None, "bob")
    assert store.current([first])[first].new == "normal"
    undo(store, first, "ann")
    assert store.current([first]) == {}
    assert undo(store, first, "ann") is None
    assert [e.new for e in store.history(first)] == ["normal", "abnormal", None, None]
    assert store.history(third) == []


@pytest.mark.parametrize(
    ("before", "after", "wins"),
    [
        ("human", "model", False),
        ("import", "model", False),
        ("bulk", "model", False),
        ("human", "import", False),
        ("model", "model", True),
        ("model", "human", True),
        ("import", "human", True),
        ("import", "import", True),
        ("bulk", "human", True),
        ("human", "bulk", True),
    ],
)
def test_who_may_overrule_whom(sqlite_store, make_clips, before, after, wins):
    entry = make_clips(count=1)[0]
    sqlite_store.register([entry])
    version = {"model": "m/1"}
    sqlite_store.set_label(entry.clip.id, "normal", "x", before, version.get(before))
    event = sqlite_store.set_label(entry.clip.id, "abnormal", "y", after, version.get(after))
    assert (event is not None) == wins
    now = sqlite_store.current()[entry.clip.id]
    assert (now.new, now.source) == (("abnormal", after) if wins else ("normal", before))
    # the fold holds the rule too, should such an event ever get into the database
    events = [LabelEvent("c", None, "normal", "x", "", before, version.get(before))]
    events.append(LabelEvent("c", "normal", "abnormal", "y", "", after, version.get(after)))
    assert fold(events).label_name == ("abnormal" if wins else "normal")


def test_a_person_who_confirms_a_model_makes_it_a_human_label(sqlite_store, make_clips):
    entry = make_clips(count=1)[0]
    sqlite_store.register([entry])
    sqlite_store.set_label(entry.clip.id, "normal", "net", "model", "m/1")
    assert sqlite_store.set_label(entry.clip.id, "normal", "net", "model", "m/1") is None
    assert sqlite_store.set_label(entry.clip.id, "normal", "net", "model", "m/2").model_version == "m/2"
    assert sqlite_store.videos()[0].labelled == 0, "a pre-label is not a label"
    assert sqlite_store.set_label(entry.clip.id, "normal", "ann", "human").source == "human"
    assert sqlite_store.videos()[0].labelled == 1
    assert undo(sqlite_store, entry.clip.id, "ann").new is None
    assert sqlite_store.current()[entry.clip.id].model_version == "m/2"


@pytest.mark.parametrize("statement", ["UPDATE events SET who = 'mallory'", "DELETE FROM events"])
def test_the_database_refuses_to_change_events(store, make_clips, statement):
    entry = make_clips(count=1)[0]
    store.register([entry])
    store.set_label(entry.clip.id, "normal", "ann", "human")
    engine = sa.create_engine(store.engine.url)
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match="append-only"):
        connection.execute(sa.text(statement))
    engine.dispose()
    assert store.history(entry.clip.id)[0].who == "ann"


def test_unknown_clips_and_classes_are_refused_and_nothing_is_written(store, make_clips):
    clips = make_clips(count=2)
    store.register(clips)
    known = clips[0].clip.id
    with pytest.raises(LabelError, match=r"no such clip: c-0 \(registered: 2; run `posewatch prepare`"):
        store.set_labels({known: "normal", "c-0": "normal"}, "ann", "human")
    with pytest.raises(LabelError, match=r"unknown class 'fall' \(known: normal, abnormal\)"):
        store.set_label(known, "fall", "ann", "human")
    with pytest.raises(LabelError, match="no such clip: c-0"):
        undo(store, "c-0", "ann")
    with pytest.raises(LabelError, match="no such clip: c-0"):
        store.history("c-0")
    assert store.current() == {}
    assert store.set_label(known, "fall", "ann", "human", classes=("fall", "walk")).new == "fall"


def test_many_clips_at_once(store, make_clips):
    clips = make_clips(count=1201, length=1.0)
    store.register(clips)
    events = store.set_labels({e.clip.id: "normal" for e in clips}, "file", "import")
    assert len(events) == 1201
    assert len(store.current([e.clip.id for e in clips])) == 1201


def _start(url: str, who: str, clips: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, url, who, *clips]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_that_open_and_write_at_once_lose_nothing(url, make_clips):
    first = LabelStore(url)
    clips = make_clips(count=4)
    first.register(clips)
    ids = [e.clip.id for e in clips]
    writers = [_start(url, f"short-{i}", ids) for i in range(2)]
    for writer in writers:
        assert writer.stdout.readline() == "open\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    outputs = [writer.communicate(timeout=60)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    acknowledged = sum(len(text.splitlines()) for text in outputs)
    events = {clip: first.history(clip) for clip in ids}
    first.close()
    assert acknowledged == sum(map(len, events.values()))
    assert acknowledged > 8
    for chain in events.values():
        assert [e.old for e in chain] == [None, *(e.new for e in chain[:-1])], "each writer saw the other's last label"


def test_a_new_store_opened_at_once_by_several_processes(url):
    code = (
        "import sys; from posewatch.labels.store import LabelStore; print('ready', flush=True); sys.stdin.readline()\n"
        "print(LabelStore(sys.argv[1]).videos())"
    )
    command = [sys.executable, "-c", code, url]
    several = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in several:
        assert process.stdout.readline() == "ready\n"
    for process in several:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in several] == ["[]\n"] * 4


def test_opening_a_locked_sqlite_file_waits_for_the_lock(tmp_path):
    path, released = tmp_path / "labels.db", []
    lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")  # SQLite refuses to switch to WAL mode at once, without its busy timeout
    release = threading.Timer(0.5, lambda: (released.append(True), lock.execute("COMMIT")))
    release.start()
    LabelStore(f"sqlite:///{path}").close()
    assert released
    release.join()
    lock.close()


def test_acknowledged_labels_outlive_a_killed_writer(url, make_clips):
    store = LabelStore(url)
    clips = make_clips(count=4)
    store.register(clips)
    with _start(url, "ann", [e.clip.id for e in clips]) as writer:
        writer.stdin.write("go\n")
        writer.stdin.flush()
        lines = [writer.stdout.readline() for _ in range(12)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()  # communicate() would pass over what readline() has read ahead
    acknowledged = [tuple(line.split()) for line in lines if line != "open\n" and line.endswith("\n")]
    assert len(acknowledged) >= 11
    for entry in clips:
        stored = [e.new for e in store.history(entry.clip.id)]
        mine = [label for clip, label in acknowledged if clip == entry.clip.id]
        assert stored[: len(mine)] == mine
    assert store.set_label(clips[0].clip.id, "normal", "bob", "bulk"), "the store goes on"
    store.close()


def test_where_the_store_is_found(tmp_path, monkeypatch):
    monkeypatch.delenv("POSEWATCH_LABELS_URL", raising=False)
    monkeypatch.setenv("POSEWATCH_HOME", str(tmp_path / "home"))
    LabelStore().close()
    assert (tmp_path / "home" / "labels.db").is_file()
    monkeypatch.setenv("POSEWATCH_LABELS_URL", f"sqlite:///{tmp_path}/other.db")
    LabelStore().close()
    assert (tmp_path / "other.db").is_file()


def test_a_database_that_cannot_be_used_is_one_clear_line(tmp_path: Path):
    text, foreign, newer, blocked = (tmp_path / name for name in ("text.db", "foreign.db", "newer.db", "file"))
    text.write_text("this is no database, but some text that somebody wrote" * 20)
    blocked.write_text("")
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE events (id INTEGER)")
    connection.close()
    LabelStore(f"sqlite:///{newer}").close()
    with sqlite3.connect(newer) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '99'")
    connection.close()
    expected = {
        f"sqlite:///{text}": "text.db: file is not a database",
        f"sqlite:///{foreign}": "holds tables of another application",
        f"sqlite:///{newer}": f"has schema 99, this posewatch writes schema {schema.HEAD}",
        f"sqlite:///{blocked}/labels.db": "cannot open the label store at",
        "sqlite://": "needs a file",
        "mysql://host/labels": "SQLite or PostgreSQL, not 'mysql'",
        "labels.db": "must look like sqlite:///labels.db",
        "postgresql://host:port/labels": "its port a number",
    }
    for url, message in expected.items():
        with pytest.raises(LabelError) as caught:
            LabelStore(url)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["postgresql://ann:secret@127.0.0.1:1/labels", "postgres://ann:secret@127.0.0.1:1/labels\n"]
)
def test_a_database_server_that_does_not_answer_is_named_without_its_password(url):
    pytest.importorskip("psycopg")
    with pytest.raises(
        LabelError, match=r"cannot open the label store at postgresql\+psycopg://.*/labels: conn"
    ) as caught:
        LabelStore(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
