"""Databases of older versions are migrated and keep their content."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from label_stores import stale

from posewatch.labels.db import schema, tables
from posewatch.labels.db.projection import rebuild
from posewatch.labels.store import LabelStore


def first_version(url: str, rows: list[dict], events: list[tuple]) -> None:
    """A database of the first version: without alembic, with the columns of that version."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    old = sa.MetaData()
    keep = {
        "clips": {c.name for c in tables.clips.c} - {"preview", "skeleton", "double_draw", "random_draw", "person"},
        "events": {c.name for c in tables.events.c} - {"act", "batch", "undoes"},
    }
    created = {
        name: sa.Table(
            name, old, *(sa.Column(c.name, c.type, primary_key=c.primary_key) for c in table.c if c.name in keep[name])
        )
        for name, table in (("clips", tables.clips), ("events", tables.events))
    }
    sa.Table("schema_version", old, sa.Column("version", sa.Integer, primary_key=True))
    old.create_all(engine)
    with engine.begin() as connection:
        connection.execute(old.tables["schema_version"].insert().values(version=1))
        connection.execute(
            created["clips"].insert(), [{k: v for k, v in r.items() if k in keep["clips"]} for r in rows]
        )
        fields = ("clip_id", "old", "new", "who", "when", "source", "model_version")
        connection.execute(created["events"].insert(), [dict(zip(fields, event, strict=True)) for event in events])
    engine.dispose()


def test_a_database_of_the_first_version_is_upgraded_with_its_labels(url, make_clips):
    clips = make_clips(count=3)
    rows = [{**e.clip.to_dict(), "names": list(e.names), "key": e.key, "store": e.store} for e in clips]
    a, b, c = (e.clip.id for e in clips)
    when = "2026-01-01T00:00:00.000+00:00"
    first_version(
        url,
        rows,
        [
            (a, None, "normal", "ann", when, "human", None),
            (a, "normal", "abnormal", "ann", when, "human", None),
            (a, "abnormal", None, "ann", when, "human", None),  # an undo that names no event
            (b, None, "abnormal", "net", when, "model", "m/1"),
            (c, None, "abnormal", "bob", when, "bulk", None),
            (c, "abnormal", None, "bob", when, "human", None),
        ],
    )
    store = LabelStore(url)
    assert store.clips() == clips
    assert {clip: event.new for clip, event in store.current().items()} == {a: "normal", b: "abnormal"}
    assert store.videos()[0].labelled == 1
    assert [e.new for e in store.history(a)] == ["normal", "abnormal", None]
    waits = sa.select(tables.waiting.c.clip_id).where(tables.waiting.c.state == 0)
    assert set(store.database.read(lambda connection: connection.execute(waits).scalars().all())) == {b, c}
    assert store.set_label(c, "normal", "ann", "human").old is None
    assert store.database.read(stale) == []
    with store.engine.connect() as connection:
        assert 0 <= connection.execute(sa.select(sa.func.max(tables.clips.c.double_draw))).scalar() < 1
        names = set(sa.inspect(connection).get_table_names())
    assert "schema_version" not in names
    store.close()
    LabelStore(url).close()  # once more: nothing is left to do


def test_the_migrations_create_the_tables_that_the_code_expects(url):
    store = LabelStore(url)
    found = sa.inspect(store.engine)
    for table in tables.metadata.sorted_tables:
        columns = {c["name"]: c["nullable"] for c in found.get_columns(table.name)}
        assert columns == {c.name: bool(c.nullable) for c in table.c}, table.name
        assert {i.name for i in table.indexes} <= {i["name"] for i in found.get_indexes(table.name)}, table.name
    store.close()


@pytest.mark.parametrize("table", ["status", "votes"])
def test_derived_tables_can_be_rebuilt(store, make_clips, table):
    clips = make_clips(count=2)
    store.register(clips)
    store.set_labels({e.clip.id: "normal" for e in clips}, "ann", "human")
    store.database.write(lambda connection: connection.execute(sa.text(f"DELETE FROM {table}")) and None)
    if table == "status":
        assert store.database.read(stale) == sorted(e.clip.id for e in clips)
    store.database.write(rebuild)
    assert store.database.read(stale) == []
    assert len(store.current()) == 2
    assert schema.HEAD == "9"
