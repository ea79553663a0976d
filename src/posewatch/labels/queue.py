"""The work queue: who gets which clip next.

A clip goes to one person (two, of the share that is labelled twice) as a claim that expires, so that nobody waits for
somebody who has left.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.db import projection, tables
from posewatch.labels.entries import UNSURE, WITHOUT_OPINION, ClipState

if TYPE_CHECKING:
    from posewatch.labels.store import Guard, LabelStore

_waiting = tables.waiting.c
ORDER = (_waiting.rank, _waiting.video_id, _waiting.start_s, _waiting.clip_id)
"""The order of the queue: that of the index ix_waiting_order within a state."""


class WorkQueue:
    """Claims on the clips of a store, or on those of one ``unit``. ``clock`` returns seconds since the epoch."""

    def __init__(
        self,
        store: LabelStore,
        config: LabelConfig | None = None,
        clock: Callable[[], float] = time.time,
        unit: str = "",
    ) -> None:
        self.store, self.config, self.clock, self.unit = store, config or LabelConfig(), clock, unit

    def claim(self, who: str, count: int) -> list[str]:
        """Claim up to ``count`` clips for ``who`` and ``config.claim_s`` seconds: those already claimed, then new ones.

        In the order of the model's ranking where there is one (`active.refresh`), else by video and time. Nobody gets
        a clip that they have labelled, or that enough others have claimed or labelled.
        """

        def work(connection: sa.Connection) -> list[str]:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('posewatch claims'))"))
            now = self.clock()
            waiting, claims = tables.waiting, tables.claims
            mine = sa.select(waiting.c.clip_id).join(claims, claims.c.clip_id == waiting.c.clip_id)
            mine = mine.where(claims.c.who == who, claims.c.until > now, ~_voted(who))
            mine = mine.where(tables.is_of_unit(waiting.c.clip_id, self.unit))
            held = list(connection.execute(mine.order_by(*ORDER)).scalars())[:count]
            new = self._next(connection, who, now, held, count - len(held))
            while projection.catch_up(connection, new):
                new = self._next(connection, who, now, held, count - len(held))
            ids = [*held, *new]
            replaced = sa.or_(claims.c.until <= now, sa.and_(claims.c.who == who, claims.c.clip_id.in_(ids)))
            connection.execute(claims.delete().where(replaced))
            rows = [{"clip_id": clip, "who": who, "until": now + self.config.claim_s} for clip in ids]
            if rows:
                connection.execute(claims.insert(), rows)
            return ids

        return self.store.database.write(work)

    def renew(self, who: str, clip_ids: list[str]) -> None:
        """Restart the time of the claims that ``who`` holds on these clips."""
        claims, now = tables.claims, self.clock()
        mine = sa.and_(claims.c.who == who, claims.c.clip_id.in_(clip_ids), claims.c.until > now)
        self.store.database.execute(claims.update().where(mine).values(until=now + self.config.claim_s))

    def release(self, who: str) -> None:
        """Delete all claims of ``who``."""
        self.store.database.execute(tables.claims.delete().where(tables.claims.c.who == who))

    def remaining(self, who: str) -> int:
        """The number of clips that the queue could still give to ``who``."""
        now = self.clock()
        count = sa.select(sa.func.count())
        if self.config.double or self.unit:
            stages = [count.select_from(stage.subquery()) for stage in self._stages(who, now)]
            return sum(number for (number,) in self.store.database.rows(*stages))
        # All that wait, minus the few that others have claimed or that ``who`` is unsure of: no lookup per clip.
        waiting, claims, votes = tables.waiting, tables.claims, tables.votes
        held = sa.select(claims.c.clip_id).where(claims.c.until > now, claims.c.who != who)
        unsure = sa.select(votes.c.clip_id).where(votes.c.who == who, votes.c.label == UNSURE)
        taken = sa.union(held, unsure).subquery()
        every = count.select_from(waiting).where(waiting.c.state == 0)
        unavailable = count.select_from(taken.join(waiting, waiting.c.clip_id == taken.c.clip_id))
        (total,), (minus,) = self.store.database.rows(every, unavailable.where(waiting.c.state == 0))
        return int(total - minus)

    def holders(self, clip_ids: list[str]) -> dict[str, list[str]]:
        """The people who have a claim on each of these clips now, by clip id."""
        claims = tables.claims.c
        query = sa.select(claims.clip_id, claims.who).where(claims.clip_id.in_(clip_ids), claims.until > self.clock())
        holders: dict[str, list[str]] = {}
        for clip, who in self.store.database.rows(query):
            holders.setdefault(clip, []).append(who)
        return holders

    def _next(self, connection: sa.Connection, who: str, now: float, held: list[str], count: int) -> list[str]:
        """The first clips of the queue for ``who``, without those they hold.

        Each stage walks an index and stops early, so it takes no longer when millions of clips are done. Clips that
        wait for a second opinion are taken in the order of ``double_draw``: any other order would read all clips that
        were labelled once.
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
                query = query.with_for_update(of=clips, skip_locked=True)  # skips clips that are being labelled now
            found += [tuple(row) for row in connection.execute(query)]
        return [clip for *_, clip in sorted(found)[:count]]

    def _stages(self, who: str, now: float) -> list[sa.Select[Any]]:
        """The clips that ``who`` may get: those without an opinion and, where some are labelled twice, with one."""
        waiting, claims, double = tables.waiting, tables.claims, self.config.double
        # NOT IN uses a hash table. With a join, a planner whose statistics say that claims are few compares each
        # waiting clip with each claim.
        others = sa.select(claims.c.clip_id).where(claims.c.until > now, claims.c.who != who)
        free = waiting.c.clip_id.not_in(others)
        given = sa.select(*ORDER).where(~_voted(who), tables.is_of_unit(waiting.c.clip_id, self.unit))
        if not double:
            return [given.where(waiting.c.state == 0, free)]
        twice = waiting.c.double_draw < double
        pairs = others.group_by(claims.c.clip_id).having(sa.func.count() > 1)
        first = given.where(waiting.c.state == 0, sa.or_(free, sa.and_(twice, waiting.c.clip_id.not_in(pairs))))
        return [first, given.where(waiting.c.state == 1, twice, free)]

    # guards: called inside the transaction that labels

    def guard(self, who: str, *, strict: bool = True) -> Guard:
        """Prevents ``who`` from labelling clips of others.

        Raises LabelError for a clip that others have claimed, and (``strict``: it came from the queue) for a clip that
        enough others have labelled since the claim of ``who`` expired.
        """

        def check(connection: sa.Connection, clip: str, state: ClipState) -> bool:
            others = [name for name in state.opinions if name != who]
            holders = self._holders(connection, clip, who)
            people = {*others, *holders}
            if who not in state.votes and people and len(people) >= self._wanted(connection, clip):
                if holders:
                    raise LabelError(f"{holders[0]} is labelling clip {clip} now: take another")
                if strict:
                    raise LabelError(f"your claim on clip {clip} expired, and {others[-1]} labelled it: take another")
            self._drop_claim(connection, clip, who)
            return True

        return check

    def bulk_guard(self, who: str) -> Guard:
        """Skips clips that need no label of ``who``: enough others have labelled or claimed them."""

        def check(connection: sa.Connection, clip: str, state: ClipState) -> bool:
            given = state.label is not None and state.label.source in WITHOUT_OPINION
            if given or who in state.votes or state.settled:
                return False
            others = {*state.votes, *self._holders(connection, clip, who)}
            if others and len(others) >= self._wanted(connection, clip):
                return False
            self._drop_claim(connection, clip, who)
            return True

        return check

    def _drop_claim(self, connection: sa.Connection, clip: str, who: str) -> None:
        claims = tables.claims
        connection.execute(claims.delete().where(claims.c.clip_id == clip, claims.c.who == who))

    def _holders(self, connection: sa.Connection, clip: str, who: str) -> list[str]:
        claims = tables.claims.c
        query = sa.select(claims.who).where(claims.clip_id == clip, claims.who != who, claims.until > self.clock())
        return list(connection.execute(query.order_by(claims.who)).scalars())

    def _wanted(self, connection: sa.Connection, clip: str) -> int:
        """How many people should label the clip."""
        draw = connection.execute(sa.select(tables.clips.c.double_draw).where(tables.clips.c.id == clip)).scalar()
        return 2 if draw is not None and draw < self.config.double else 1


def _voted(who: str) -> sa.ColumnElement[bool]:
    votes = tables.votes
    # A scalar and not EXISTS: looked up by primary key for the clips that get this far, and never joined.
    mine = sa.select(sa.literal(1)).where(votes.c.clip_id == tables.waiting.c.clip_id, votes.c.who == who)
    return mine.scalar_subquery().is_not(None)
