"""A clip as one person sees it: who may see whose label, and what a model thinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from posewatch.config import LabelConfig
from posewatch.labels.db import tables
from posewatch.labels.entries import ClipEntry, State, draw
from posewatch.labels.queue import WorkQueue

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore


@dataclass(frozen=True)
class Card:
    """A clip as a person sees it: ``label`` counts, ``suggestion`` is only what a model says of it.

    ``mine`` tells one's own label from another's. ``second`` says that a second opinion is wanted, ``held`` who else
    has the clip in hand. ``votes`` is what each person says, for a reviewer only.
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


def cards(
    store: LabelStore, queue: WorkQueue, clip_ids: list[str], who: str, config: LabelConfig, everything: bool
) -> tuple[Card, ...]:
    """The clips as ``who`` sees them, in order. ``everything``: a reviewer, who sees what everybody said.

    Of a clip that two people label, a labeler sees no other label than their own: the second opinion is worth
    something because it does not know the first.
    """
    entries = {entry.clip.id: entry for entry in store.clips(clip_ids=clip_ids)}
    states = store.states(clip_ids)
    holders = queue.holders(clip_ids)
    table = tables.predictions
    query = sa.select(table).where(table.c.clip_id.in_(clip_ids))
    said = {row["clip_id"]: row for row in store.database.read(lambda c: c.execute(query).mappings().all())}
    out = []
    for clip in clip_ids:
        if clip not in entries:
            continue
        found, more = states.get(clip, State()), {}
        twice = draw(clip, "double") < config.double
        if clip in said:
            probabilities = said[clip]["probabilities"]
            best = max(probabilities, key=lambda name: probabilities[name])
            version, random = said[clip]["model_version"], bool(said[clip]["random"])
            # a suggestion would lead the people whose labels are to judge the model, or each other
            if not random and not twice:
                more = {"suggestion": best, "confidence": probabilities[best], "model": version}
            more["random"] = random
        other = next((name for name in holders.get(clip, ()) if name != who), "")
        if everything:
            more["votes"] = tuple((name, event.new or "") for name, event in sorted(found.votes.items()))
        event = found.label
        blind = twice and not everything and not found.settled
        if blind or (event is not None and who in found.votes and not found.settled and not everything):
            event = found.votes.get(who) or (None if blind else event)
        if event is not None and event.source == "model":
            if not twice:
                more.setdefault("suggestion", event.new)
                more.setdefault("model", event.model_version or event.who)
            event = None
        out.append(
            Card(
                entries[clip],
                label=event.new if event else None,
                who=event.who if event else "",
                source=event.source if event else "",
                act=event.act if event else "",
                mine=event is not None and event.who == who,
                second=twice and who not in found.votes and bool(found.opinions),
                held=other,
                settled=found.settled,
                **more,
            )
        )
    return tuple(out)
