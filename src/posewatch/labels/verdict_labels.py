"""Verdicts on alarms as label events: what each judged record says of its clips, brought into the label store.

The events have the source ``verdict``. The label of a person in the grid has precedence over them: that person looked
at this very clip, an operator at the whole alarm; and such a label, taken back, lets the verdict count again. A
verdict has precedence over a label file and a model. Nobody disagrees with a verdict: it is no second opinion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from posewatch.labels.db import tables
from posewatch.labels.db.database import chunks
from posewatch.labels.entries import fold, timestamp
from posewatch.labels.verdicts import current_in
from posewatch.records import LabelEvent, Source

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

SOURCE: Source = "verdict"
ACT = "verdict"
TAKEN_BACK = "verdict taken back"
_BATCH = re.compile(r"verdict-(\d+)-\d+")


@dataclass(frozen=True)
class VerdictLabel:
    """A clip's label by the verdict with this id: ``who`` judged the alarm that the model ``version`` raised."""

    label: str
    verdict: int
    who: str
    version: str


def bring(store: LabelStore, wanted: Mapping[str, VerdictLabel]) -> tuple[int, int]:
    """Make the verdict labels of the store those of ``wanted`` (by clip id); returns how many were given and taken.

    The label of a verdict that counts no more is taken back, also where its clip is not among ``wanted``; one of
    ``wanted`` whose verdict was changed meanwhile is not given. Safe to repeat, to kill, and to run twice at a time:
    each clip is compared under its lock with what it should be.
    """
    given = taken = 0
    for chunk in chunks({*wanted, *_labelled(store)}):
        events = store.database.write(partial(_bring, store, chunk, wanted))
        given += sum(event.new is not None for event in events)
        taken += sum(event.new is None for event in events)
    return given, taken


def _labelled(store: LabelStore) -> list[str]:
    """The clips that have, or had, a label by a verdict."""
    events = tables.events.c
    query = sa.select(events.clip_id).where(events.source == SOURCE).distinct()
    return [clip for (clip,) in store.database.rows(query)]


def _bring(
    store: LabelStore, ids: list[str], wanted: Mapping[str, VerdictLabel], connection: sa.Connection
) -> list[LabelEvent]:
    history = store.lock_history(connection, ids)
    counting = {verdict.id for verdict in current_in(connection).values()}  # now: another process may know more than we
    events: list[LabelEvent] = []
    for clip in ids:
        chain = history.get(clip, [])
        said, want = [event for event in chain if event.source == SOURCE], wanted.get(clip)
        undone = {event.undoes for event in said if event.undoes is not None}
        live = [event for event in said if event.undoes is None and event.id not in undone]
        kept = [event for event in live if _verdict_of(event) in counting]
        if want is not None and (want.verdict not in counting or any(_verdict_of(e) > want.verdict for e in kept)):
            want = None  # somebody has judged since
        if want is not None:
            kept = [event for event in kept if (event.new, _verdict_of(event)) == (want.label, want.verdict)]
        old = fold(chain).label_name
        for event in live:
            if event not in kept:
                batch = f"{event.batch}-back"
                undo = LabelEvent(
                    clip, old, None, event.who, timestamp(), SOURCE, event.model_version, TAKEN_BACK, batch, event.id
                )
                events.append(undo)
        if want is not None and not kept:
            number = sum(_verdict_of(event) == want.verdict for event in said if event.undoes is None)
            batch = f"verdict-{want.verdict}-{number}"
            events.append(
                LabelEvent(clip, old, want.label, want.who, timestamp(), SOURCE, want.version or None, ACT, batch)
            )
    return store.append(connection, history, events)


def _verdict_of(event: LabelEvent) -> int:
    found = _BATCH.fullmatch(event.batch or "")
    return int(found[1]) if found else 0
