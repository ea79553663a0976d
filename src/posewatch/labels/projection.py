"""``status`` and ``votes``: what the events of each clip amount to, kept in the same transaction as the events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from posewatch.labels import tables
from posewatch.labels.entries import State, state
from posewatch.records import LabelEvent

CHUNK = 500
"""Ids per statement: below every database's limit on parameters."""

T = TypeVar("T")
_EVENT = ("id", "clip_id", "old", "new", "who", "when", "source", "model_version", "act", "batch", "undoes")


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """``items`` in parts of at most ``CHUNK``."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def event_of(row: Mapping[Any, Any]) -> LabelEvent:
    """The event of one row of the table."""
    return LabelEvent(**{name: row[name] for name in _EVENT})


def history(connection: sa.Connection, ids: Iterable[str] | None) -> dict[str, list[LabelEvent]]:
    """Every event of the clips ``ids`` (of all), oldest first, by clip."""
    table = tables.events
    query = sa.select(*(table.c[name] for name in _EVENT)).order_by(table.c.id)
    out: dict[str, list[LabelEvent]] = {}
    parts = [query] if ids is None else [query.where(table.c.clip_id.in_(c)) for c in chunks(sorted(set(ids)))]
    for part in parts:
        for row in connection.execute(part).mappings():
            out.setdefault(row["clip_id"], []).append(event_of(row))
    return out


def write(connection: sa.Connection, states: Mapping[str, State]) -> None:
    """Make the rows of these clips say what ``states`` says."""
    for part in chunks(sorted(states)):
        for table in (tables.status, tables.votes):
            connection.execute(table.delete().where(table.c.clip_id.in_(part)))
    rows = [_status(clip, found, found.label) for clip, found in sorted(states.items()) if found.label is not None]
    if rows:
        connection.execute(tables.status.insert(), rows)
    said = [
        {"clip_id": clip, "who": who, "label": e.new, "source": e.source, "event_id": e.id}
        for clip, found in sorted(states.items())
        for who, e in found.votes.items()
    ]
    if said:
        connection.execute(tables.votes.insert(), said)


def _status(clip: str, found: State, label: LabelEvent) -> dict[str, Any]:
    return {
        "clip_id": clip,
        "event_id": label.id,
        "label": label.new,
        "source": label.source,
        "opinions": len(found.opinions),
        "differ": found.differ,
        "settled": found.settled,
    }


def rebuild(connection: sa.Connection) -> None:
    """Make ``status`` and ``votes`` anew from all events."""
    for table in (tables.status, tables.votes):
        connection.execute(table.delete())
    write(connection, {clip: state(events) for clip, events in history(connection, None).items()})


def stale(connection: sa.Connection) -> list[str]:
    """The clips of which ``status`` says something else than the events: none, in a sound database."""
    folded = {clip: found.id for clip, events in history(connection, None).items() if (found := state(events).label)}
    status = tables.status.c
    kept: dict[str, int] = {row[0]: row[1] for row in connection.execute(sa.select(status.clip_id, status.event_id))}
    return sorted(clip for clip in folded.keys() | kept.keys() if folded.get(clip) != kept.get(clip))
