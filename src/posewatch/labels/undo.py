"""Undo and redo of whole acts, per person. Both are events, so they work after a reload and in another tab."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa

from posewatch.labels.db import projection, tables
from posewatch.labels.entries import fold
from posewatch.labels.store import LabelStore, reversal
from posewatch.records import LabelEvent

DEPTH = 400
"""How many of a person's last events, and whole acts that they belong to, are considered at a time."""
WAYS_BACK = 40
"""How many times that many: what is older cannot be undone."""

Act = list[LabelEvent]
REMOVE = "remove"
"""The act with which people take back their label of one clip: an act of its own, which can be undone."""


def stacks(events: list[LabelEvent]) -> tuple[list[Act], list[Act]]:
    """(acts that can be undone, acts that can be redone), each oldest first; ``events`` of one person, oldest first."""
    acts = by_batch(events)
    undoable: list[Act] = []
    redoable: list[Act] = []
    for act in acts.values():
        targets = {event.undoes for event in act}
        if targets == {None} or act[0].act == REMOVE:
            if any(event.new is not None or event.act == REMOVE for event in act):
                undoable.append(act)
                redoable = []
            continue
        source, destination = (redoable, undoable) if act[0].act == "redo" else (undoable, redoable)
        for candidate in reversed(source):
            if targets & {event.reverts for event in candidate}:
                source.remove(candidate)
                destination.append(candidate)
                break
    return undoable, redoable


def by_batch(events: list[LabelEvent]) -> dict[str, Act]:
    """The acts of these events by their batch, in the order of their first events."""
    acts: dict[str, Act] = {}
    for event in events:
        acts.setdefault(event.batch or f"#{event.id}", []).append(event)
    return acts


def step(
    store: LabelStore, who: str, direction: Literal["undo", "redo"], batch: str, act: str | None = None
) -> list[LabelEvent]:
    """Undo or redo the last act of ``who``; returns the new events, none when there is nothing to undo or redo.

    ``act`` (a batch) names the act instead, such as the last one of this tab: nothing else is undone then.

    Labels that others have given the same clips meanwhile stay. ``batch`` identifies this step; repeated, it changes
    nothing.
    """

    def work(connection: sa.Connection) -> list[LabelEvent]:
        if connection.dialect.name == "postgresql":  # two tabs of one person take turns
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:who))"), {"who": f"undo {who}"})
        events: list[LabelEvent] = []
        source: list[Act] = []
        for _ in range(WAYS_BACK):
            older = _before(connection, who, events[0].id if events else None)
            events = [*older, *events]
            done = [event for event in events if event.batch == batch]
            if done:
                return done
            source = stacks(events)[direction == "redo"]
            if act is not None:
                source = [one for one in source if one[0].batch == act]
            if source or not older:
                break
        if not source:
            return []
        targets = [event for event in source[-1] if event.new is not None or event.act == REMOVE]
        history = store.lock_history(connection, [event.clip_id for event in targets])
        steps = []
        for target in targets:
            old = fold(history[target.clip_id]).label_name
            labels = (direction == "undo") == (target.act == REMOVE)  # whether the clip has the label afterwards
            new = _label(events, target) if labels else None
            steps.append(reversal(target, old, new, who, target.source, direction, batch))
        return store.append(connection, history, steps)

    return store.database.write(work)


def _before(connection: sa.Connection, who: str, first: int | None) -> list[LabelEvent]:
    """The last events of ``who`` before the event ``first`` (None: of all), oldest first, no act cut in two."""
    table = tables.events
    mine = sa.select(table).where(table.c.who == who, table.c.source.in_(("human", "bulk")))
    mine = mine if first is None else mine.where(table.c.id < first)
    rows = list(connection.execute(mine.order_by(table.c.id.desc()).limit(DEPTH)))
    if len(rows) == DEPTH and rows[-1].batch:
        rest = mine.where(table.c.batch == rows[-1].batch, table.c.id < rows[-1].id)
        rows += connection.execute(rest.order_by(table.c.id.desc())).all()
    return [projection.event_of(row) for row in reversed(rows)]


def _label(events: list[LabelEvent], target: LabelEvent) -> str | None:
    """The label that ``target`` gave, or took back."""
    taken = next((event.new for event in events if event.id == target.undoes), target.old)
    return taken if target.new is None else target.new
