"""``status``, ``votes`` and ``waiting``: what the events of each clip amount to, kept in the events' transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from posewatch.labels.db import tables
from posewatch.labels.entries import BAD, State, state
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
    _project(connection, states)
    table = tables.waiting
    stages: dict[int, list[str]] = {}
    for clip in sorted(states):
        stages.setdefault(_stage(states[clip]), []).append(clip)
    for stage, clips in sorted(stages.items()):
        for part in chunks(clips):
            connection.execute(table.update().where(table.c.clip_id.in_(part)).values(state=stage))


def _stage(found: State) -> int:
    """``waiting.state`` of a clip; `_stage_of_status` says the same in SQL."""
    label = found.label
    if label is None:
        return 0
    if found.settled or found.differ or label.source == "import" or label.new == BAD:
        return 2
    return min(2, len(found.opinions))


def _stage_of_status() -> sa.Case[int]:
    status = tables.status
    done = sa.or_(status.c.settled, status.c.differ, status.c.source == "import", status.c.label == BAD)
    return sa.case((status.c.clip_id.is_(None), 0), (done, 2), (status.c.opinions > 1, 2), else_=status.c.opinions)


def settle(connection: sa.Connection, ids: Collection[str]) -> bool:
    """Whether the queue was behind on any of these few clips; it is not any more.

    While a new version takes the place of an old one, pods of the old one label clips and know of no queue.
    """
    status, table, stage = tables.status, tables.waiting, _stage_of_status()
    asked = sa.select(table.c.clip_id, stage).outerjoin(status, status.c.clip_id == table.c.clip_id)
    behind = connection.execute(asked.where(table.c.clip_id.in_(ids), table.c.state != stage)).all()
    for clip, known in behind:
        connection.execute(table.update().where(table.c.clip_id == clip).values(state=known))
    return bool(behind)


def refill(connection: sa.Connection) -> None:
    """Make ``waiting`` anew from the clips, their status and the model's ranking."""
    clips, status, ranks, table = tables.clips, tables.status, tables.predictions, tables.waiting
    rank = sa.func.coalesce(ranks.c.rank, tables.UNRANKED)
    rows = (
        sa.select(clips.c.id, _stage_of_status(), rank, clips.c.video_id, clips.c.start_s, clips.c.double_draw)
        .outerjoin(status, status.c.clip_id == clips.c.id)
        .outerjoin(ranks, ranks.c.clip_id == clips.c.id)
    )
    connection.execute(table.delete())
    columns = ["clip_id", "state", "rank", "video_id", "start_s", "double_draw"]
    connection.execute(table.insert().from_select(columns, rows))


def place(connection: sa.Connection, ids: Iterable[str]) -> None:
    """Bring these clips to the place in the queue that the model's ranking gives them."""
    ranks, table = tables.predictions, tables.waiting
    rank = sa.select(ranks.c.rank).where(ranks.c.clip_id == table.c.clip_id).scalar_subquery()
    for part in chunks(sorted(set(ids))):
        placed = table.update().where(table.c.clip_id.in_(part))
        connection.execute(placed.values(rank=sa.func.coalesce(rank, tables.UNRANKED)))


def _project(connection: sa.Connection, states: Mapping[str, State]) -> None:
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


def rebuild(connection: sa.Connection, *, waiting: bool = True) -> None:
    """Make ``status``, ``votes`` and (``waiting``) the queue anew from all events."""
    for table in (tables.status, tables.votes):
        connection.execute(table.delete())
    _project(connection, {clip: state(events) for clip, events in history(connection, None).items()})
    if waiting:
        refill(connection)


def stale(connection: sa.Connection) -> list[str]:
    """The clips of which ``status`` says something else than the events: none, in a sound database."""
    folded = {clip: found.id for clip, events in history(connection, None).items() if (found := state(events).label)}
    status = tables.status.c
    kept: dict[str, int] = {row[0]: row[1] for row in connection.execute(sa.select(status.clip_id, status.event_id))}
    return sorted(clip for clip in folded.keys() | kept.keys() if folded.get(clip) != kept.get(clip))
