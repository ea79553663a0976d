"""The work queue: who gets which clip next. A clip is given to one person (two, of the share that is labelled twice),
as a claim that expires, so that nobody waits for somebody who went home."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.db import projection, tables
from posewatch.labels.entries import UNSURE, State

if TYPE_CHECKING:
    from posewatch.labels.store import Guard, LabelStore

_waiting = tables.waiting.c
ORDER = (_waiting.rank, _waiting.video_id, _waiting.start_s, _waiting.clip_id)
"""The order of the queue, which is that of the index ix_waiting_order within a state."""


class WorkQueue:
    """Claims on the clips of a store. ``clock`` gives seconds since the epoch."""

    def __init__(
        self, store: LabelStore, config: LabelConfig | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.store, self.config, self.clock = store, config or LabelConfig(), clock

    def claim(self, who: str, count: int) -> list[str]:
        """Give ``who`` up to ``count`` clips for ``config.claim_s`` seconds: those still in hand, then new ones.

        In the order of the model's ranking where there is one (`active.refresh`), else by video and time. Nobody gets
        a clip that they have labelled, or of which enough others have a claim or a label.
        """

        def work(connection: sa.Connection) -> list[str]:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('posewatch claims'))"))
            now = self.clock()
            waiting, claims = tables.waiting, tables.claims
            mine = sa.select(waiting.c.clip_id).join(claims, claims.c.clip_id == waiting.c.clip_id)
            mine = mine.where(claims.c.who == who, claims.c.until > now, ~_voted(who))
            held = list(connection.execute(mine.order_by(*ORDER)).scalars())[:count]
            new = self._next(connection, who, now, held, count - len(held))
            while projection.settle(connection, new):
                new = self._next(connection, who, now, held, count - len(held))
            gone = sa.or_(claims.c.until <= now, sa.and_(claims.c.who == who, claims.c.clip_id.in_([*held, *new])))
            connection.execute(claims.delete().where(gone))
            rows = [{"clip_id": clip, "who": who, "until": now + self.config.claim_s} for clip in (*held, *new)]
            if rows:
                connection.execute(claims.insert(), rows)
            return [*held, *new]

        return self.store.database.write(work)

    def renew(self, who: str, clip_ids: list[str]) -> None:
        """Keep for ``who`` what they have in hand of these clips, for the whole time again."""
        table = tables.claims
        mine = sa.and_(table.c.who == who, table.c.clip_id.in_(clip_ids), table.c.until > self.clock())
        longer = table.update().where(mine).values(until=self.clock() + self.config.claim_s)
        self.store.database.write(lambda connection: connection.execute(longer) and None)

    def release(self, who: str) -> None:
        """Give back what ``who`` has in hand."""
        table = tables.claims
        self.store.database.write(
            lambda connection: connection.execute(table.delete().where(table.c.who == who)) and None
        )

    def left(self, who: str) -> int:
        """How many clips the queue could still give to ``who``."""
        now = self.clock()
        count = sa.select(sa.func.count())
        if self.config.double:
            parts = [count.select_from(stage.subquery()) for stage in self._stages(who, now)]
            return self.store.database.read(lambda connection: sum(connection.execute(p).scalar() or 0 for p in parts))
        # all that wait, without the few that others hold or who is unsure of: nothing is asked of each single clip
        waiting, claims, votes = tables.waiting, tables.claims, tables.votes
        held = sa.select(claims.c.clip_id).where(claims.c.until > now, claims.c.who != who)
        unsure = sa.select(votes.c.clip_id).where(votes.c.who == who, votes.c.label == UNSURE)
        taken = sa.union(held, unsure).subquery()
        every = count.select_from(waiting).where(waiting.c.state == 0)
        others = count.select_from(taken.join(waiting, waiting.c.clip_id == taken.c.clip_id)).where(
            waiting.c.state == 0
        )

        def work(connection: sa.Connection) -> int:
            return int((connection.execute(every).scalar() or 0) - (connection.execute(others).scalar() or 0))

        return self.store.database.read(work)

    def holders(self, clip_ids: list[str]) -> dict[str, list[str]]:
        """Who has a claim on each of these clips now, by clip id."""
        table = tables.claims
        query = sa.select(table.c.clip_id, table.c.who).where(
            table.c.clip_id.in_(clip_ids), table.c.until > self.clock()
        )
        out: dict[str, list[str]] = {}
        for clip, who in self.store.database.read(lambda connection: connection.execute(query).all()):
            out.setdefault(clip, []).append(who)
        return out

    def _next(self, connection: sa.Connection, who: str, now: float, held: list[str], count: int) -> list[str]:
        """The first clips of the queue for ``who``, without what they hold: each stage walks an index and stops.

        So it takes no longer when millions are done. What waits for a second opinion is taken by its draw, which is
        the only way to it that does not pass by all that was labelled once.
        """
        if count < 1:
            return []
        waiting, clips = tables.waiting, tables.clips
        found: list[tuple[Any, ...]] = []
        for stage, order in zip(
            self._stages(who, now), (ORDER, (_waiting.double_draw, _waiting.clip_id)), strict=False
        ):
            query = stage.join(clips, clips.c.id == waiting.c.clip_id).where(waiting.c.clip_id.not_in(held))
            query = query.order_by(*order).limit(count)
            if connection.dialect.name == "postgresql":
                query = query.with_for_update(of=clips, skip_locked=True)  # not what is being labelled right now
            found += [tuple(row) for row in connection.execute(query)]
        return [clip for *_, clip in sorted(found)[:count]]

    def _stages(self, who: str, now: float) -> list[sa.Select[Any]]:
        """The clips that may be given to ``who``: without an opinion, and (where some are labelled twice) with one."""
        waiting, claims, double = tables.waiting, tables.claims, self.config.double
        # Written as NOT IN, which databases answer by a hash table. As a join, a planner that thinks the claims are
        # few, because they were when it last looked, compares each waiting clip with each claim.
        others = sa.select(claims.c.clip_id).where(claims.c.until > now, claims.c.who != who)
        free = waiting.c.clip_id.not_in(others)
        given = sa.select(*ORDER).where(~_voted(who))
        if not double:
            return [given.where(waiting.c.state == 0, free)]
        twice = waiting.c.double_draw < double
        pairs = others.group_by(claims.c.clip_id).having(sa.func.count() > 1)
        first = given.where(waiting.c.state == 0, sa.or_(free, sa.and_(twice, waiting.c.clip_id.not_in(pairs))))
        return [first, given.where(waiting.c.state == 1, twice, free)]

    # what is asked inside the transaction that labels

    def guard(self, who: str, *, strict: bool = True) -> Guard:
        """Keeps ``who`` from labelling what belongs to others.

        A clip that others have a claim on, or (``strict``: it came from the queue) that enough others have labelled
        while the claim of ``who`` ran out, raises LabelError.
        """

        def check(connection: sa.Connection, clip: str, found: State) -> bool:
            others = [name for name in found.opinions if name != who]
            holders = self._holders(connection, clip, who)
            if who not in found.votes and (holders or others):
                wanted = self._wanted(connection, clip)
                if len({*others, *holders}) >= wanted:
                    if holders:
                        raise LabelError(f"{holders[0]} is labelling clip {clip} now: take another")
                    if strict:
                        raise LabelError(
                            f"your claim on clip {clip} ran out, and {others[-1]} labelled it: take another"
                        )
            self.done(connection, clip, who)
            return True

        return check

    def spare(self, who: str) -> Guard:
        """Leaves out of an act in bulk what needs no label of ``who``: enough others have labelled it or hold it."""

        def check(connection: sa.Connection, clip: str, found: State) -> bool:
            if who in found.votes or found.settled or (found.label is not None and found.label.source == "import"):
                return False
            others = {*found.votes, *self._holders(connection, clip, who)}
            if others and len(others) >= self._wanted(connection, clip):
                return False
            self.done(connection, clip, who)
            return True

        return check

    def done(self, connection: sa.Connection, clip: str, who: str) -> None:
        """``who`` needs no claim on the clip any more."""
        table = tables.claims
        connection.execute(table.delete().where(table.c.clip_id == clip, table.c.who == who))

    def _holders(self, connection: sa.Connection, clip: str, who: str) -> list[str]:
        table = tables.claims
        query = sa.select(table.c.who).where(table.c.clip_id == clip, table.c.who != who, table.c.until > self.clock())
        return list(connection.execute(query.order_by(table.c.who)).scalars())

    def _wanted(self, connection: sa.Connection, clip: str) -> int:
        draw = connection.execute(sa.select(tables.clips.c.double_draw).where(tables.clips.c.id == clip)).scalar()
        return 2 if draw is not None and draw < self.config.double else 1


def _voted(who: str) -> sa.ColumnElement[bool]:
    votes = tables.votes
    # a value and no EXISTS, so that it is looked up by its key for the clips that come so far, and never joined
    mine = sa.select(sa.literal(1)).where(votes.c.clip_id == tables.waiting.c.clip_id, votes.c.who == who)
    return mine.scalar_subquery().is_not(None)
