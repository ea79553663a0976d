"""Times the label store: what labelers and pipelines call, on a real database, alone and with many people at once."""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from posewatch.labels.store import LabelStore  # first: its error names the missing extra

# isort: split
import numpy as np
import sqlalchemy as sa

from posewatch.config import LabelConfig
from posewatch.errors import PosewatchError
from posewatch.labels.queue import ORDER
from posewatch.labels.session import LabelingSession
from posewatch.labels.team import roles

TABLES = ("clips", "events", "status", "votes", "predictions", "waiting", "claims")
REPEATS = 8
"""Each call is timed this often; the median counts."""


@dataclass(frozen=True)
class Sizes:
    """Rows of a table, its bytes and those of its indexes; bytes are None where the database does not report them."""

    rows: int
    table: int | None
    indexes: int | None


@dataclass(frozen=True)
class Loop:
    """Result of a closed loop: each person takes a page and labels it clip by clip, thinking ``think_s`` before each.

    ``acts`` counts labels and ``claims`` pages within ``seconds``; their latencies are in seconds of wall-clock time.
    ``lost`` counts acknowledged labels that are not in the store afterwards, ``twice`` clips given to two people,
    ``errors`` refused acts.
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


def sizes(store: LabelStore) -> dict[str, Sizes]:
    """Rows and bytes of every table."""

    def work(connection: sa.Connection) -> dict[str, Sizes]:
        result = {}
        for name in TABLES:
            rows = int(connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar() or 0)
            table = indexes = None
            if store.engine.dialect.name == "postgresql":
                row = connection.exec_driver_sql(f"SELECT pg_table_size('{name}'), pg_indexes_size('{name}')")
                table, indexes = (int(value) for value in row.one())
            result[name] = Sizes(rows, table, indexes)
        return result

    return store.database.read(work)


def people(store: LabelStore, count: int) -> list[str]:
    """Names of ``count`` people who have the role of labeler."""
    names = [f"labeler {i:03}" for i in range(count)]
    known = roles.all_roles(store)
    for who in names:
        if known.get(who) != "labeler":
            roles.set_role(store, who, "labeler", "operator")
    return names


def calls(store: LabelStore, config: LabelConfig | None = None) -> dict[str, float]:
    """Median seconds of each call of one labeler while no other works."""
    config = config or LabelConfig()
    (who,) = people(store, 1)
    session = LabelingSession(store, who, config)
    cards = session.claim()
    given = [card.entry.clip.id for card in cards]
    video = cards[0].entry.clip.video_id

    def claim() -> None:
        session.queue.release(who)
        session.claim()

    seconds = {
        "claim a page": _median(claim),
        "page of a video": _median(lambda: session.page(video)),
        "label a clip": _median(lambda: session.label(given.pop(), "normal", "key", queued=True)),
        "count what is left": _median(lambda: session.queue.remaining(who), 3),
        "list all videos": _median(store.videos, 2),
        "count labels (gate)": _median(lambda: store.counts(exclude_sources=("model",)), 3),
    }
    session.queue.release(who)
    return seconds


def _median(act: Callable[[], Any], times: int = REPEATS) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def plan(store: LabelStore) -> dict[str, Any]:
    """The index by which the database reads a page of the queue (empty: none), and how many rows it reads for it."""
    from posewatch.labels.queue import WorkQueue

    (stage,) = WorkQueue(store)._stages("somebody", time.time())
    text = str(
        stage.order_by(*ORDER).limit(24).compile(store.engine, compile_kwargs={"literal_binds": True})
    )  # fmt: skip
    with store.engine.connect() as connection:
        if store.engine.dialect.name == "postgresql":
            explained = connection.exec_driver_sql("EXPLAIN (ANALYZE, FORMAT JSON) " + text.replace("%", "%%")).scalar()
            top = explained[0]["Plan"] if isinstance(explained, list) else json.loads(str(explained))[0]["Plan"]
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
    """Let ``count`` people label at once for ``seconds``; each thinks ``think_s`` seconds on average before a label.

    All share this process and its database connections, as the people of one pod of the labeling page do.
    """
    config = config or LabelConfig()
    names = people(store, count)
    acts: list[float] = []
    claims: list[float] = []
    acknowledged: dict[str, list[str]] = {who: [] for who in names}
    errors: list[str] = []
    deadline = 0.0

    def start_clock() -> None:
        nonlocal deadline
        deadline = time.monotonic() + seconds

    ready = threading.Barrier(count, start_clock)

    def work(who: str) -> None:
        chance = random.Random(f"{seed}/{who}")
        try:
            session = LabelingSession(store, who, config)
            page = list(session.claim())
            ready.wait()
        except threading.BrokenBarrierError:  # another thread failed
            return
        except BaseException:
            ready.abort()
            raise
        page = page[chance.randrange(len(page)) :] if page else []  # people are not all at the top of their page
        time.sleep(chance.uniform(0, think_s))
        while time.monotonic() < deadline:
            for card in page:
                time.sleep(chance.expovariate(1 / think_s) if think_s else 0)
                if time.monotonic() >= deadline:
                    return
                began = time.perf_counter()
                try:
                    session.label(card.entry.clip.id, chance.choice(config.classes), "key", queued=True)
                except PosewatchError as error:
                    errors.append(str(error))
                    continue
                acknowledged[who].append(card.entry.clip.id)
                if time.monotonic() < deadline:
                    acts.append(time.perf_counter() - began)
            began = time.perf_counter()
            page = list(session.claim())
            claims.append(time.perf_counter() - began)
            if not page:
                time.sleep(0.1)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, names))
    lost, twice = _check(store, acknowledged)
    for who in names:
        LabelingSession(store, who, config).queue.release(who)
    act_p50, act_p95 = map(float, np.quantile(acts or [0.0], (0.5, 0.95)))
    claim_p50, claim_p95 = map(float, np.quantile(claims or [0.0], (0.5, 0.95)))
    return Loop(
        count, think_s, seconds, len(acts), len(claims), act_p50, act_p95, claim_p50, claim_p95,
        lost, twice, len(errors),
    )  # fmt: skip


def _check(store: LabelStore, acknowledged: dict[str, list[str]]) -> tuple[int, int]:
    """How many acknowledged labels are not in the store, and how many clips were given to two people."""
    states = store.states([clip for clips in acknowledged.values() for clip in clips])
    lost = sum(1 for who, clips in acknowledged.items() for clip in clips if who not in states[clip].votes)
    given = [clip for clips in acknowledged.values() for clip in set(clips)]
    return lost, len(given) - len(set(given))
