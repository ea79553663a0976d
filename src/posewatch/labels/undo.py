"""Undo and redo of whole acts, per person. Both are events, so they work after a reload and from another tab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

from posewatch.labels.db import projection, tables
from posewatch.labels.entries import state
from posewatch.records import LabelEvent

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

DEPTH = 400
"""How many of a person's last events are looked at: what is older cannot be undone."""

Act = list[LabelEvent]


def stacks(events: list[LabelEvent]) -> tuple[list[Act], list[Act]]:
    """(what can be undone, what can be redone), each oldest first; ``events`` of one person, oldest first."""
    acts: dict[str, Act] = {}
    for event in events:
        acts.setdefault(event.batch or f"#{event.id}", []).append(event)
    done: list[Act] = []
    undone: list[Act] = []
    for act in acts.values():
        roots = {event.undoes for event in act}
        if roots == {None}:
            if any(event.new is not None for event in act):
                done.append(act)
                undone = []
            continue
        source, target = (done, undone) if act[0].new is None else (undone, done)
        for found in reversed(source):
            if roots & {event.id for event in found}:
                source.remove(found)
                target.append(found)
                break
    return done, undone


def step(store: LabelStore, who: str, direction: Literal["undo", "redo"], batch: str) -> list[LabelEvent]:
    """Undo or redo the last act of ``who``; returns the events made, none when there is nothing left to do.

    What others said of the same clips meanwhile stands. ``batch`` names this step; given again it changes nothing.
    """

    def work(connection: sa.Connection) -> list[LabelEvent]:
        table = tables.events
        if connection.dialect.name == "postgresql":  # two tabs of one person take turns
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:who))"), {"who": f"undo {who}"})
        mine = sa.select(table).where(table.c.who == who, table.c.source.in_(("human", "bulk")))
        rows = connection.execute(mine.order_by(table.c.id.desc()).limit(DEPTH)).mappings().all()
        events = [projection.event_of(row) for row in reversed(rows)]
        before = [event for event in events if event.batch == batch]
        if before:
            return before
        done, undone = stacks(events)
        source = done if direction == "undo" else undone
        if not source:
            return []
        targets = [event for event in source[-1] if event.undoes is None and event.new is not None]
        history = store.locked(connection, [event.clip_id for event in targets])
        made = []
        for target in targets:
            now = state(history[target.clip_id]).label
            new = None if direction == "undo" else target.new
            old = now.new if now else None
            made.append(store.event(target.clip_id, old, new, who, target.source, direction, batch, target.id))
        return store.append(connection, history, made)

    return store.database.write(work)
