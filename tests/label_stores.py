"""What tests ask of a label store beyond what the product does."""

from __future__ import annotations

import sqlalchemy as sa

from posewatch.labels.db import tables
from posewatch.labels.db.projection import history
from posewatch.labels.entries import fold
from posewatch.labels.store import LabelStore, new_batch
from posewatch.records import LabelEvent


def undo(store: LabelStore, clip_id: str, who: str) -> LabelEvent | None:
    """Undo the clip's current label, whoever gave it; None when it has none."""
    label = fold(store.history(clip_id)).label
    return label and store.undo_event(label, who, new_batch())


def stale(connection: sa.Connection) -> list[str]:
    """The clips whose ``status`` does not follow from their events: none, in a consistent database."""
    folded = {clip: state.id for clip, events in history(connection, None).items() if (state := fold(events).label)}
    status = tables.status.c
    stored = dict(connection.execute(sa.select(status.clip_id, status.event_id)).all())
    return sorted(clip for clip in folded.keys() | stored.keys() if folded.get(clip) != stored.get(clip))
