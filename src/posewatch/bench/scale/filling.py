"""Fills a label store with millions of clips and labels by bulk statements.

Registering them one by one would take hours. The rows pass every check of the store when they are read.
"""

from __future__ import annotations

import random

from posewatch.labels.store import LabelStore  # first: its error names the missing extra

# isort: split
import sqlalchemy as sa

from posewatch.labels.db import projection, tables
from posewatch.labels.queue import ORDER

PER_VIDEO = 20


def fill(store: LabelStore, first: int, count: int) -> None:
    """Add the clips numbered ``first`` to ``count - 1``: twenty clips of three seconds per video, ranked by a model."""
    if store.engine.dialect.name == "postgresql":
        _fill_postgresql(store, first, count)
    else:
        _fill_rows(store, first, count)


def _fill_postgresql(store: LabelStore, first: int, count: int) -> None:
    # ids from hashes, as the stages derive them: the store checks them when it reads
    clips = f"""
        INSERT INTO clips SELECT c, v, json_build_array('camera ' || mod(n, 1000) || '/' || n || '.mp4'),
            'clips/' || v || '/0123456789ab/' || c || '.mp4', 's3://posewatch', st, 3, 10, 30, 640, 360, 1.2,
            'previews/' || v || '/0123456789ab/' || c || '.mp4', 'previews/' || v || '/0123456789ab/' || c || '.json',
            random(), random()
        FROM (SELECT n, v, st, 'c-' || left(encode(sha256(convert_to(v || '/' || st * 1000 || '/3000', 'UTF8')),
            'hex'), 16) c FROM (SELECT i / {PER_VIDEO} n, 'v-' || left(md5((i / {PER_VIDEO})::text), 16) v,
            mod(i, {PER_VIDEO}) * 3 st FROM generate_series({first}, {count - 1}) i) a) b"""
    ranks = """
        INSERT INTO predictions SELECT id, 'abnormal/1', '{"abnormal":0.48131,"normal":0.51869}', 0.998993,
            (random() * 2000000000)::int, random_draw < 0.1
        FROM clips WHERE NOT EXISTS (SELECT 1 FROM predictions p WHERE p.clip_id = clips.id)"""
    for statement in (clips, ranks):
        store.database.write(lambda connection, text=statement: connection.exec_driver_sql(text) and None)  # type: ignore[misc]
    _settle(store)


def _fill_rows(store: LabelStore, first: int, count: int) -> None:
    import hashlib

    from posewatch.labels.entries import ClipEntry
    from posewatch.records import Clip, clip_id, video_id

    chance = random.Random(first)
    for begin in range(first, count, 10_000):
        entries = []
        for i in range(begin, min(count, begin + 10_000)):
            video = video_id(hashlib.sha256(str(i // PER_VIDEO).encode()).hexdigest())
            start = i % PER_VIDEO * 3.0
            clip = Clip(clip_id(video, start, 3.0), video, start, 3.0, 10.0, 30, 640, 360, 1.2)
            key = f"clips/{video}/0123456789ab/{clip.id}.mp4"
            entries.append(ClipEntry(clip, (f"{i // PER_VIDEO}.mp4",), key, "s3://posewatch"))
        store.register(entries)
        rows = [
            {
                "clip_id": e.clip.id, "model_version": "abnormal/1", "uncertainty": 0.9, "random": False,
                "probabilities": {"abnormal": 0.48131, "normal": 0.51869}, "rank": chance.randrange(2_000_000_000),
            }
            for e in entries
        ]  # fmt: skip
        store.database.write(lambda c, rows=rows: c.execute(tables.predictions.insert(), rows) and None)  # type: ignore[misc]
    _settle(store)


def label_share(store: LabelStore, share: float) -> int:
    """Label clips from the top of the queue, by 200 people, until ``share`` of all is labelled; returns how many."""

    def work(connection: sa.Connection) -> int:
        total = int(connection.execute(sa.select(sa.func.count()).select_from(tables.clips)).scalar() or 0)
        waiting, events, status = tables.waiting, tables.events, tables.status
        before = int(connection.execute(sa.select(sa.func.count()).select_from(status)).scalar() or 0)
        todo = max(0, round(total * share) - before)
        ids = connection.execute(
            sa.select(waiting.c.clip_id).where(waiting.c.state == 0).order_by(*ORDER).limit(todo)
        ).scalars().all()  # fmt: skip
        for start in range(0, len(ids), 20_000):
            part = ids[start : start + 20_000]
            rows = [
                {
                    "clip_id": clip, "new": "normal", "who": f"p{i % 200:03}", "source": "human", "act": "key",
                    "when": "2026-01-01T08:00:00.000+00:00", "batch": f"{start + i:032x}{before:032x}",
                }
                for i, clip in enumerate(part)
            ]  # fmt: skip
            connection.execute(events.insert(), rows)
        has_status = sa.exists().where(status.c.clip_id == events.c.clip_id)
        event = [events.c.clip_id, events.c.id, events.c.new, events.c.source]
        flags = [sa.literal(1), sa.false(), sa.false()]
        connection.execute(
            status.insert().from_select([c.name for c in status.c], sa.select(*event, *flags).where(~has_status))
        )
        votes = tables.votes
        has_vote = sa.exists().where(votes.c.clip_id == events.c.clip_id)
        ballots = sa.select(events.c.clip_id, events.c.who, events.c.new, events.c.source, events.c.id).where(~has_vote)
        connection.execute(votes.insert().from_select([c.name for c in votes.c], ballots))
        return before + len(ids)

    done = store.database.write(work)
    _settle(store)
    return done


def _settle(store: LabelStore) -> None:
    if store.engine.dialect.name == "postgresql":  # else its indexes keep the space of deleted rows
        store.database.write(lambda connection: connection.exec_driver_sql("TRUNCATE waiting") and None)
    store.database.write(projection.refill)
    with store.engine.connect() as connection:
        statement = "VACUUM ANALYZE" if store.engine.dialect.name == "postgresql" else "ANALYZE"
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(statement)
