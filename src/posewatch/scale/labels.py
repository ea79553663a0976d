"""The label store at growing sizes: a real database, the real queue and session, and two hundred people at once.

Clips are put in by statements, because registering a million one by one measures nothing but patience; what is timed
is what labelers and pipelines call.
"""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from posewatch.labels.store import LabelStore  # first, because it says which extra is missing

# isort: split
import sqlalchemy as sa

from posewatch.config import LabelConfig
from posewatch.errors import PosewatchError
from posewatch.labels import projection, roles, tables
from posewatch.labels.queue import ORDER
from posewatch.labels.session import LabelingSession

PER_VIDEO = 20
TABLES = ("clips", "events", "status", "votes", "predictions", "waiting", "claims")
WAYS = 8
"""How often each call is timed; its median counts."""


@dataclass(frozen=True)
class Sizes:
    """Rows, and bytes of the table and of its indexes; bytes are None where the database does not tell."""

    rows: int
    table: int | None
    indexes: int | None


@dataclass(frozen=True)
class Loop:
    """What people did in a closed loop: each takes a page, labels it clip by clip, and pauses ``think_s`` in between.

    ``lost`` is the number of acknowledged labels that are not in the store afterwards, ``twice`` that of clips given
    to two people, ``errors`` that of acts refused. Times in seconds, by the clock.
    """

    people: int
    think_s: float
    seconds: float
    acts: int
    claims: int
    act_p50_s: float
    act_p95_s: float
    claim_p50_s: float
    claim_p95_s: float
    lost: int
    twice: int
    errors: int

    @property
    def acts_per_s(self) -> float:
        return self.acts / self.seconds


def fill(store: LabelStore, first: int, count: int) -> None:
    """Add the clips ``first`` to ``count``, twenty of three seconds a video, ranked by a model."""
    if store.engine.dialect.name == "postgresql":
        _fill_postgresql(store, first, count)
    else:
        _fill_rows(store, first, count)


def _fill_postgresql(store: LabelStore, first: int, count: int) -> None:
    # hexadecimal digits of hashes: ids as the stages make them, which the store checks when it reads them
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
    """Let the first ``share`` of the queue be labelled by 200 people; returns how many clips are labelled then."""

    def work(connection: sa.Connection) -> int:
        total = int(connection.execute(sa.select(sa.func.count()).select_from(tables.clips)).scalar() or 0)
        waiting, events, status = tables.waiting, tables.events, tables.status
        have = int(connection.execute(sa.select(sa.func.count()).select_from(status)).scalar() or 0)
        todo = max(0, round(total * share) - have)
        ids = connection.execute(
            sa.select(waiting.c.clip_id).where(waiting.c.state == 0).order_by(*ORDER).limit(todo)
        ).scalars().all()  # fmt: skip
        for start in range(0, len(ids), 20_000):
            part = ids[start : start + 20_000]
            rows = [
                {
                    "clip_id": clip, "new": "normal", "who": f"p{i % 200:03}", "source": "human", "act": "key",
                    "when": "2026-01-01T08:00:00.000+00:00", "batch": f"{start + i:032x}{have:032x}",
                }
                for i, clip in enumerate(part)
            ]  # fmt: skip
            connection.execute(events.insert(), rows)
        known = sa.exists().where(status.c.clip_id == events.c.clip_id)
        of = [events.c.clip_id, events.c.id, events.c.new, events.c.source]
        flags = [sa.literal(1), sa.false(), sa.false()]
        connection.execute(
            status.insert().from_select([c.name for c in status.c], sa.select(*of, *flags).where(~known))
        )
        votes = tables.votes
        said = sa.exists().where(votes.c.clip_id == events.c.clip_id)
        rows_of = sa.select(events.c.clip_id, events.c.who, events.c.new, events.c.source, events.c.id).where(~said)
        connection.execute(votes.insert().from_select([c.name for c in votes.c], rows_of))
        return have + len(ids)

    done = store.database.write(work)
    _settle(store)
    return done


def _settle(store: LabelStore) -> None:
    if store.engine.dialect.name == "postgresql":  # or its indexes would keep the room of the rows from before
        store.database.write(lambda connection: connection.exec_driver_sql("TRUNCATE waiting") and None)
    store.database.write(projection.refill)
    with store.engine.connect() as connection:
        statement = "VACUUM ANALYZE" if store.engine.dialect.name == "postgresql" else "ANALYZE"
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(statement)


def sizes(store: LabelStore) -> dict[str, Sizes]:
    """Rows and bytes of every table."""

    def work(connection: sa.Connection) -> dict[str, Sizes]:
        out = {}
        for name in TABLES:
            rows = int(connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar() or 0)
            table = indexes = None
            if store.engine.dialect.name == "postgresql":
                asked = connection.exec_driver_sql(f"SELECT pg_table_size('{name}'), pg_indexes_size('{name}')")
                table, indexes = (int(value) for value in asked.one())
            out[name] = Sizes(rows, table, indexes)
        return out

    return store.database.read(work)


def people(store: LabelStore, count: int) -> list[str]:
    """Names of ``count`` labelers who have their role."""
    names = [f"labeler {i:03}" for i in range(count)]
    known = roles.everybody(store)
    for who in names:
        if known.get(who) != "labeler":
            roles.appoint(store, who, "labeler", "operator")
    return names


def calls(store: LabelStore, config: LabelConfig | None = None) -> dict[str, float]:
    """Median seconds of what one labeler does, by name, with nobody else at work."""
    config = config or LabelConfig()
    (who,) = people(store, 1)
    session = LabelingSession(store, who, config)
    cards = session.claim()
    given = [card.entry.clip.id for card in cards]
    video = cards[0].entry.clip.video_id

    def claim() -> None:
        session.queue.release(who)
        session.claim()

    found = {
        "claim a page": _median(claim),
        "page of a video": _median(lambda: session.page(video)),
        "label a clip": _median(lambda: session.label(given.pop(), "normal", "key", queued=True)),
        "count what is left": _median(lambda: session.queue.left(who), 3),
        "list all videos": _median(store.videos, 2),
        "count labels (gate)": _median(lambda: store.counts(exclude_sources=("model",)), 3),
    }
    session.queue.release(who)
    return found


def _median(act: Callable[[], Any], times: int = WAYS) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def plan(store: LabelStore) -> dict[str, Any]:
    """Whether the queue is walked along its index, as the database says, and how many rows it touches for a page."""
    from posewatch.labels.queue import WorkQueue

    (stage,) = WorkQueue(store)._stages("somebody", time.time())
    text = str(
        stage.order_by(*ORDER).limit(24).compile(store.engine, compile_kwargs={"literal_binds": True})
    )  # fmt: skip
    with store.engine.connect() as connection:
        if store.engine.dialect.name == "postgresql":
            found = connection.exec_driver_sql("EXPLAIN (ANALYZE, FORMAT JSON) " + text.replace("%", "%%")).scalar()
            top = found[0]["Plan"] if isinstance(found, list) else json.loads(str(found))[0]["Plan"]
            scan = next((node for node in _nodes(top) if node.get("Relation Name") == "waiting"), {})
            rows = int(scan.get("Actual Rows", 0) + scan.get("Rows Removed by Filter", 0))
            return {"index": str(scan.get("Index Name", "")), "rows_walked": rows}
        lines = [str(row[3]) for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + text)]
    uses = any("ix_waiting_order" in line for line in lines)
    return {"index": "ix_waiting_order" if uses else "", "rows_walked": None}


def _nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(n for child in node.get("Plans", []) for n in _nodes(child))]


def loop(
    store: LabelStore, count: int, seconds: float, think_s: float, config: LabelConfig | None = None, seed: int = 0
) -> Loop:
    """Let ``count`` people work at once for ``seconds``; each thinks ``think_s`` on average before each label.

    All share this process, as the people of one pod of the labeling page do, and its database connections.
    """
    config = config or LabelConfig()
    names = people(store, count)
    acts: list[float] = []
    claims: list[float] = []
    said: dict[str, list[str]] = {who: [] for who in names}
    errors: list[str] = []
    ready = threading.Barrier(count + 1)
    window = [0.0, 0.0]

    def work(who: str) -> None:
        chance = random.Random(f"{seed}/{who}")
        session = LabelingSession(store, who, config)
        given = list(session.claim())
        ready.wait()
        given = given[chance.randrange(len(given)) :] if given else []  # people are not all at the top of their page
        time.sleep(chance.uniform(0, think_s))
        while time.monotonic() < window[1]:
            for card in given:
                time.sleep(chance.expovariate(1 / think_s) if think_s else 0)
                if time.monotonic() >= window[1]:
                    return
                began = time.perf_counter()
                try:
                    session.label(card.entry.clip.id, chance.choice(config.classes), "key", queued=True)
                except PosewatchError as error:
                    errors.append(str(error))
                    continue
                said[who].append(card.entry.clip.id)
                if time.monotonic() < window[1]:
                    acts.append(time.perf_counter() - began)
            began = time.perf_counter()
            given = list(session.claim())
            claims.append(time.perf_counter() - began)
            if not given:
                time.sleep(0.1)

    threads = [threading.Thread(target=work, args=(who,), daemon=True) for who in names]
    for thread in threads:
        thread.start()
    # nobody waits before this thread does, so that all see the same window
    while ready.n_waiting < count and any(thread.is_alive() for thread in threads):
        time.sleep(0.01)
    window[:] = [time.monotonic(), time.monotonic() + seconds]
    ready.wait(60)
    for thread in threads:
        thread.join()
    acts.sort()
    claims.sort()
    lost, twice = _check(store, said)
    for who in names:
        LabelingSession(store, who, config).queue.release(who)
    act, claim = acts or [0.0], claims or [0.0]
    return Loop(
        count, think_s, seconds, len(acts), len(claims),
        quantile(act, 0.5), quantile(act, 0.95), quantile(claim, 0.5), quantile(claim, 0.95), lost, twice, len(errors),
    )  # fmt: skip


def _check(store: LabelStore, said: dict[str, list[str]]) -> tuple[int, int]:
    states = store.states([clip for clips in said.values() for clip in clips])
    lost = sum(1 for who, clips in said.items() for clip in clips if who not in states[clip].votes)
    given = [clip for clips in said.values() for clip in set(clips)]
    return lost, len(given) - len(set(given))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the sorted values lie."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
