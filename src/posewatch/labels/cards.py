"""A clip as one person sees it: whose labels they may see, and what the model predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from posewatch.config import LabelConfig
from posewatch.labels.db import tables
from posewatch.labels.entries import ClipEntry, ClipState, hash_fraction
from posewatch.labels.notes import Comment, comments
from posewatch.labels.queue import WorkQueue

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore


@dataclass(frozen=True)
class Card:
    """A clip as a person sees it. ``label`` is the clip's label, ``suggestion`` only a model's prediction.

    ``mine``: the label is this person's own. ``second``: a second opinion is wanted. ``held``: who else has a claim on
    the clip. ``votes``: each person's label, for a reviewer only. ``comments``: those that this person may read.
    """

    entry: ClipEntry
    label: str | None = None
    who: str = ""
    source: str = ""
    act: str = ""
    mine: bool = False
    suggestion: str | None = None
    confidence: float | None = None
    model: str = ""
    random: bool = False
    second: bool = False
    held: str = ""
    settled: bool = False
    votes: tuple[tuple[str, str], ...] = ()
    comments: tuple[Comment, ...] = ()


def cards(
    store: LabelStore, queue: WorkQueue, clip_ids: list[str], who: str, config: LabelConfig, reviewer: bool
) -> tuple[Card, ...]:
    """The clips as ``who`` sees them, in order; ``reviewer``: to decide on them, with everybody's labels.

    Whoever labels, whatever their role, sees only their own label and comments of a clip that two people label, and no
    name: the second opinion must not depend on the first.
    """
    entries = {entry.clip.id: entry for entry in store.clips(clip_ids=clip_ids)}
    states = store.states(clip_ids)
    holders, said = queue.holders(clip_ids), comments(store, clip_ids)
    query = sa.select(tables.predictions).where(tables.predictions.c.clip_id.in_(clip_ids))
    predictions = {row.clip_id: row for row in store.database.rows(query)}
    result = []
    for clip in clip_ids:
        if clip not in entries:
            continue
        state, more = states.get(clip, ClipState()), dict[str, Any]()
        twice = hash_fraction(clip, "double") < config.double
        prediction = predictions.get(clip)
        if prediction is not None:
            more["random"] = bool(prediction.random)
            # a suggestion would bias the labels that evaluate the model or other people
            if not prediction.random and not twice:
                best, confidence = max(prediction.probabilities.items(), key=lambda item: item[1])
                more.update(suggestion=best, confidence=confidence, model=prediction.model_version)
        if reviewer:
            more["votes"] = tuple((name, event.new or "") for name, event in sorted(state.votes.items()))
        open_ = reviewer or state.settled or not twice
        more["comments"] = tuple(one for one in said.get(clip, ()) if open_ or one.who == who)
        event = state.label
        if not reviewer and not state.settled:  # one's own label first; another's only of clips that one person labels
            event = state.votes.get(who) or (None if twice else event)
        if event is not None and event.source == "model":
            if not twice:
                more.setdefault("suggestion", event.new)
                more.setdefault("model", event.model_version or event.who)
            event = None
        result.append(
            Card(
                entries[clip],
                label=event.new if event else None,
                who=event.who if event else "",
                source=event.source if event else "",
                act=event.act if event else "",
                mine=event is not None and event.who == who,
                second=twice and who not in state.votes and bool(state.opinions),
                held="" if twice and not reviewer else next((n for n in holders.get(clip, ()) if n != who), ""),
                settled=state.settled,
                **more,
            )
        )
    return tuple(result)
