"""The label store at growing sizes: a real database, the real queue and session, and two hundred people at once.

What is timed is what labelers and pipelines call; `filling` puts the clips in.
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
from posewatch.labels.queue import ORDER
from posewatch.labels.session import LabelingSession
from posewatch.labels.team import roles

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
    crashes: list[BaseException] = []
    ready = threading.Barrier(count + 1)
    window = [0.0, 0.0]

    def work(who: str) -> None:
        chance = random.Random(f"{seed}/{who}")
        try:
            session = LabelingSession(store, who, config)
            given = list(session.claim())
            ready.wait()
        except threading.BrokenBarrierError:
            return
        except BaseException as error:
            crashes.append(error)
            ready.abort()
            return
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
    while ready.n_waiting < count and not ready.broken:
        time.sleep(0.01)
    window[:] = [time.monotonic(), time.monotonic() + seconds]
    if not crashes:
        ready.wait(60)
    for thread in threads:
        thread.join()
    if crashes:
        raise crashes[0]
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
