"""Acts that label several clips at once: one event per clip, one undo. A clip that takes no label is left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from posewatch.errors import LabelError
from posewatch.labels import find
from posewatch.labels.entries import ADJUDICATE, RELABEL, UNSURE, ClipState
from posewatch.labels.queue import WorkQueue
from posewatch.records import LabelEvent, Source

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

WAYS = ("interval", "alike")
"""How a person labels several clips: an interval of a video, or clips that look alike."""


def relabel(
    store: LabelStore,
    clip_ids: Iterable[str],
    label: str,
    who: str,
    classes: Sequence[str],
    double: float,
    batch: str,
) -> list[LabelEvent]:
    """Settle these clips as a reviewer, whatever labels they have.

    Leaves those that are settled so already and those that still wait for two opinions, of which this reviewer has
    given none.
    """
    if label == UNSURE:
        raise LabelError("a reviewer settles a clip with a class or as a bad clip, not as unsure")
    ids = list(dict.fromkeys(clip_ids))
    blind = find.blind_clips(store, ids, who, double)

    def guard(_: sa.Connection, clip: str, state: ClipState) -> bool:
        return not (state.settled and state.label_name == label)

    labels = {clip: label for clip in ids if clip not in blind}
    source: Source = "human" if len(ids) == 1 else "bulk"
    return store.set_labels(labels, who, source, classes=classes, act=ADJUDICATE, batch=batch, guard=guard)


def label_several(
    store: LabelStore,
    queue: WorkQueue,
    clip_ids: Iterable[str],
    label: str,
    who: str,
    way: str,
    batch: str,
    seen: Collection[str] = (),
) -> list[LabelEvent]:
    """Label these clips as one of the people who label; ``way`` is one of `WAYS`.

    ``seen`` are clips whose page showed somebody else's label, so that this one is no independent opinion. Leaves
    clips that a reviewer has settled or that somebody else is labelling now.
    """
    allowed = queue.guard(who, strict=False)

    def guard(connection: sa.Connection, clip: str, state: ClipState) -> bool:
        try:
            return not state.settled and allowed(connection, clip, state)
        except LabelError:
            return False

    ids, events = list(dict.fromkeys(clip_ids)), []
    for act, some in ((way, [c for c in ids if c not in seen]), (RELABEL, [c for c in ids if c in seen])):
        labels = dict.fromkeys(some, label)
        events += store.set_labels(
            labels, who, "human", classes=queue.config.classes, act=act, batch=batch, guard=guard
        )
    return events
