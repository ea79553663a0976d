"""Progress and speed of labelling: per class and per person."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from posewatch.labels.db import tables
from posewatch.labels.entries import MARKS

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

IDLE_S = 60.0
"""A longer pause between two acts of a person does not count as working time."""


@dataclass(frozen=True)
class Labeler:
    """One person's work: clips that they label now, acts, and labels per minute of working time (None: too few).

    What was undone counts for nothing.
    """

    who: str
    clips: int
    acts: int
    per_minute: float | None


def per_class(store: LabelStore, unit: str = "") -> dict[str, dict[str, int]]:
    """Class (or mark) → source (human, bulk, import, model) → number of clips (of this unit) with this label."""
    status = tables.status
    query = sa.select(status.c.label, status.c.source, sa.func.count()).group_by(status.c.label, status.c.source)
    query = query.where(tables.is_of_unit(status.c.clip_id, unit))
    counts: dict[str, dict[str, int]] = {}
    for label, source, count in store.database.rows(query):
        counts.setdefault(label, {})[source] = count
    return dict(sorted(counts.items(), key=lambda row: (row[0] in MARKS, row[0])))


def per_labeler(store: LabelStore) -> list[Labeler]:
    """Everybody who has ever labelled, by name."""
    votes, events = tables.votes, tables.events
    mine = sa.select(votes.c.who, sa.func.count()).group_by(votes.c.who)
    people = events.c.source.in_(("human", "bulk"))
    done = sa.select(events.c.who, events.c.when, events.c.batch, events.c.id, events.c.new, events.c.undoes)
    done = done.where(people).order_by(events.c.id)

    def work(connection: sa.Connection) -> list[Labeler]:
        clips = {row[0]: int(row[1]) for row in connection.execute(mine)}
        acts: dict[str, list[tuple[float, str]]] = {}
        rows = connection.execute(done).all()
        undone: set[int] = set()
        for row in rows:
            if row.undoes is not None:
                (undone.add if row.new is None else undone.discard)(row.undoes)
        for who, when, batch, number, new, undoes in rows:
            if new is not None and undoes is None and number not in undone:  # neither an undo nor what it took back
                acts.setdefault(who, []).append((datetime.fromisoformat(when).timestamp(), batch or str(number)))
            else:
                acts.setdefault(who, [])
        return [
            Labeler(who, clips.get(who, 0), len({batch for _, batch in times}), _speed(times))
            for who, times in sorted(acts.items())
        ]

    return store.database.read(work)


def _speed(acts: list[tuple[float, str]]) -> float | None:
    """Labels per minute; a bulk act counts as many labels as it gave."""
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(acts)]
    work = sum(gap for gap in gaps if gap <= IDLE_S)
    labels = sum(gap <= IDLE_S for gap in gaps)
    return None if labels < 5 or work <= 0 else 60 * labels / work
