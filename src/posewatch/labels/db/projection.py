"""``status``, ``votes`` and ``waiting``: the state of each clip, derived from its events in the events' transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from posewatch.labels.db import tables
from posewatch.labels.db.database import chunks, select_ids
from posewatch.labels.entries import BAD, MARKS, WITHOUT_OPINION, ClipState, fold
from posewatch.records import LabelEvent

_EVENT = ("id", "clip_id", "old", "new", "who", "when", "source", "model_version", "act", "batch", "undoes")


def event_of(row: Any) -> LabelEvent:
    """The event of one row of the table ``events``."""
    return LabelEvent(**{name: getattr(row, name) for name in _EVENT})


def history(connection: sa.Connection, ids: Iterable[str] | None) -> dict[str, list[LabelEvent]]:
    """Every event of the clips ``ids`` (None: of all clips), oldest first, by clip id."""
    events = tables.events
    histories: dict[str, list[LabelEvent]] = {}
    for query in select_ids(sa.select(events).order_by(events.c.id), events.c.clip_id, ids):
        for row in connection.execute(query):
            histories.setdefault(row.clip_id, []).append(event_of(row))
    return histories


def write(connection: sa.Connection, states: Mapping[str, ClipState]) -> None:
    """Update the derived rows of these clips to ``states``."""
    _write_status(connection, states)
    waiting = tables.waiting
    stages: dict[int, list[str]] = {}
    for clip, state in states.items():
        stages.setdefault(_stage(state), []).append(clip)
    for stage, clips in sorted(stages.items()):
        for chunk in chunks(clips):
            connection.execute(waiting.update().where(waiting.c.clip_id.in_(chunk)).values(state=stage))
    describe(connection, states)


def _stage(state: ClipState) -> int:
    """``waiting.state`` of a clip; `_stage_of_status` is the same rule in SQL."""
    label = state.label
    if label is None:
        return 0
    if state.settled or state.differ or label.source in WITHOUT_OPINION or label.new == BAD:
        return 2
    return min(2, len(state.opinions))


def _stage_of_status() -> sa.Case[int]:
    status = tables.status
    done = sa.or_(status.c.settled, status.c.differ, status.c.source.in_(WITHOUT_OPINION), status.c.label == BAD)
    return sa.case((status.c.clip_id.is_(None), 0), (done, 2), (status.c.opinions > 1, 2), else_=status.c.opinions)


def catch_up(connection: sa.Connection, ids: Collection[str]) -> bool:
    """Correct the queue's rows of these few clips where they are behind ``status``; returns whether any was.

    During an upgrade, pods of the old version label clips without updating the queue.
    """
    status, waiting, stage = tables.status, tables.waiting, _stage_of_status()
    stages = sa.select(waiting.c.clip_id, stage).outerjoin(status, status.c.clip_id == waiting.c.clip_id)
    behind = connection.execute(stages.where(waiting.c.clip_id.in_(ids), waiting.c.state != stage)).all()
    for clip, correct in behind:
        connection.execute(waiting.update().where(waiting.c.clip_id == clip).values(state=correct))
    describe(connection, [clip for clip, _ in behind])
    return bool(behind)


def refill(connection: sa.Connection) -> None:
    """Rebuild ``waiting`` from the clips, their status and the model's predictions."""
    status, events, predictions, waiting = tables.status, tables.events, tables.predictions, tables.waiting
    # by the database itself: millions of rows
    lite = connection.dialect.name == "sqlite"
    each = f"json_each{'' if lite else '_text'}(predictions.probabilities)"
    share = "value" if lite else "CAST(value AS double precision)"
    likeliest: sa.ColumnElement[str] = sa.literal_column(
        f"(SELECT key FROM {each} ORDER BY {share} DESC LIMIT 1)", sa.Text
    )
    score: sa.ColumnElement[float] = sa.literal_column(f"(SELECT max({share}) FROM {each})", sa.Double)
    known = predictions.c.random.is_(sa.false())
    odd = sa.and_(known, status.c.source != "model", status.c.label.not_in(MARKS), likeliest != status.c.label)
    found: dict[str, sa.ColumnElement[Any]] = {
        "label": status.c.label,
        "source": status.c.source,
        "when": events.c.when,
        "differ": sa.func.coalesce(status.c.differ, sa.false()),
        "predicted": sa.case((known, likeliest)),
        "score": sa.case((known, score)),
        "odd": sa.func.coalesce(odd, sa.false()),
    }
    rows = _queue().add_columns(*found.values()).outerjoin(events, events.c.id == status.c.event_id)
    connection.execute(waiting.delete())
    connection.execute(waiting.insert().from_select([*_QUEUE, *found], rows))


def describe(connection: sa.Connection, ids: Iterable[str]) -> None:
    """Write to ``waiting`` what these clips are found by, from their status and the model's predictions."""
    waiting, status, events, predictions = tables.waiting, tables.status, tables.events, tables.predictions
    query = (
        sa.select(waiting.c.clip_id, status.c.label, status.c.source, events.c.when, status.c.differ)
        .add_columns(predictions.c.probabilities, predictions.c.random)
        .outerjoin(status, status.c.clip_id == waiting.c.clip_id)
        .outerjoin(events, events.c.id == status.c.event_id)
        .outerjoin(predictions, predictions.c.clip_id == waiting.c.clip_id)
    )
    names = ("label", "source", "when", "differ", "predicted", "score", "odd")
    new = {name: sa.bindparam(f"new_{name}", type_=waiting.c[name].type) for name in names}
    update = waiting.update().where(waiting.c.clip_id == sa.bindparam("clip")).values(**new)
    for part in select_ids(query, waiting.c.clip_id, ids):
        rows = []
        for row in connection.execute(part):
            known = row.probabilities and not row.random
            predicted, score = max(row.probabilities.items(), key=lambda item: item[1]) if known else (None, None)
            given = row.label is not None and row.source != "model" and row.label not in MARKS
            values = (row.label, row.source, row.when, bool(row.differ), predicted, score)
            odd = bool(given and predicted is not None and predicted != row.label)
            rows.append({"clip": row.clip_id, **{f"new_{n}": v for n, v in zip(names, (*values, odd), strict=True)}})
        if rows:
            connection.execute(update, rows)


def refill_queue(connection: sa.Connection) -> None:
    """Rebuild ``waiting`` without what clips are found by."""
    connection.execute(tables.waiting.delete())
    connection.execute(tables.waiting.insert().from_select(_QUEUE, _queue()))


_QUEUE = ["clip_id", "state", "rank", "video_id", "start_s", "double_draw"]


def _queue() -> sa.Select[Any]:
    """The columns `_QUEUE` of all clips, joined with their status and predictions."""
    clips, status, ranks = tables.clips, tables.status, tables.predictions
    rank = sa.func.coalesce(ranks.c.rank, tables.UNRANKED)
    return (
        sa.select(clips.c.id, _stage_of_status(), rank, clips.c.video_id, clips.c.start_s, clips.c.double_draw)
        .outerjoin(status, status.c.clip_id == clips.c.id)
        .outerjoin(ranks, ranks.c.clip_id == clips.c.id)
    )


def update_ranks(connection: sa.Connection, ids: Iterable[str]) -> None:
    """Copy the model's ranking and predictions of these clips into the queue."""
    ranks, waiting = tables.predictions, tables.waiting
    rank = sa.select(ranks.c.rank).where(ranks.c.clip_id == waiting.c.clip_id).scalar_subquery()
    for chunk in chunks(ids):
        update = waiting.update().where(waiting.c.clip_id.in_(chunk))
        connection.execute(update.values(rank=sa.func.coalesce(rank, tables.UNRANKED)))
        describe(connection, chunk)


def _write_status(connection: sa.Connection, states: Mapping[str, ClipState]) -> None:
    for chunk in chunks(states):
        for table in (tables.status, tables.votes):
            connection.execute(table.delete().where(table.c.clip_id.in_(chunk)))
    rows = [_status(clip, state, state.label) for clip, state in sorted(states.items()) if state.label is not None]
    if rows:
        connection.execute(tables.status.insert(), rows)
    votes = [
        {"clip_id": clip, "who": who, "label": event.new, "source": event.source, "event_id": event.id}
        for clip, state in sorted(states.items())
        for who, event in state.votes.items()
    ]
    if votes:
        connection.execute(tables.votes.insert(), votes)


def _status(clip: str, state: ClipState, label: LabelEvent) -> dict[str, Any]:
    return {
        "clip_id": clip,
        "event_id": label.id,
        "label": label.new,
        "source": label.source,
        "opinions": len(state.opinions),
        "differ": state.differ,
        "settled": state.settled,
    }


def rebuild(connection: sa.Connection, *, waiting: bool = True) -> None:
    """Rebuild ``status``, ``votes`` and (``waiting``) the queue from all events."""
    for table in (tables.status, tables.votes):
        connection.execute(table.delete())
    _write_status(connection, {clip: fold(events) for clip, events in history(connection, None).items()})
    if waiting:
        refill(connection)
