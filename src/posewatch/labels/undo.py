"""Undo and redo of whole acts, per person. Both are events, so they work after a reload and in another tab."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa

from posewatch.labels.db import projection, tables
from posewatch.labels.entries import fold
from posewatch.labels.store import LabelStore, reversal
from posewatch.records import LabelEvent

DEPTH = 400
"""How many of a person's last events are considered: older ones cannot be undone."""

Act = list[LabelEvent]


def stacks(events: list[LabelEvent]) -> tuple[list[Act], list[Act]]:
    """(acts that can be undone, acts that can be redone), each oldest first; ``events`` of one person, oldest first."""
    acts: dict[str, Act] = {}
    for event in events:
        acts.setdefault(event.batch or f"#{event.id}", []).append(event)
    undoable: list[Act] = []
    redoable: list[Act] = []
    for act in acts.values():
        targets = {event.undoes for event in act}
        if targets == {None}:
            if any(event.new is not None for event in act):
                undoable.append(act)
                redoable = []
            continue
        source, destination = (undoable, redoable) if act[0].new is None else (redoable, undoable)
        for candidate in reversed(source):
            if targets & {event.id for event in candidate}:
                source.remove(candidate)
                destination.append(candidate)
                break
    return undoable, redoable


def step(store: LabelStore, who: str, direction: Literal["undo", "redo"], batch: str) -> list[LabelEvent]:
    """Undo or redo the last act of ``who``; returns the new events, none when there is nothing to undo or redo.

    Labels that others have given the same clips meanwhile stay. ``batch`` identifies this step; repeated, it changes
    nothing.
    """

    def work(connection: sa.Connection) -> list[LabelEvent]:
        table = tables.events
        if connection.dialect.name == "postgresql":  # two tabs of one person take turns
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:who))"), {"who": f"undo {who}"})
        mine = sa.select(table).where(table.c.who == who, table.c.source.in_(("human", "bulk")))
        rows = connection.execute(mine.order_by(table.c.id.desc()).limit(DEPTH)).all()
        events = [projection.event_of(row) for row in reversed(rows)]
        done = [event for event in events if event.batch == batch]
        if done:
            return done
        undoable, redoable = stacks(events)
        source = undoable if direction == "undo" else redoable
        if not source:
            return []
        targets = [event for event in source[-1] if event.undoes is None and event.new is not None]
        history = store.lock_history(connection, [event.clip_id for event in targets])
        steps = []
        for target in targets:
            old = fold(history[target.clip_id]).label_name
            new = None if direction == "undo" else target.new
            steps.append(reversal(target, old, new, who, target.source, direction, batch))
        return store.append(connection, history, steps)

    return store.database.write(work)
