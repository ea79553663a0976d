"""From the browser's acts to the session's, and from the session's cards to what the browser draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from labeling_ui import media, metrics
from posewatch.errors import PosewatchError
from posewatch.labels.cards import Card
from posewatch.labels.session import LabelingSession

MOST = 500
"""Clips that one act may name."""


@dataclasses.dataclass
class Answers:
    """What the server has to say of the acts in the outbox: saved, or refused with a reason."""

    saved: list[str] = dataclasses.field(default_factory=list)
    refused: list[dict[str, str]] = dataclasses.field(default_factory=list)

    def known(self) -> set[str]:
        return {*self.saved, *(row["id"] for row in self.refused)}

    def keep(self, ids: set[str]) -> None:
        """Forget the answers to acts that have left the outbox."""
        self.saved = [one for one in self.saved if one in ids]
        self.refused = [row for row in self.refused if row["id"] in ids]


def handle(
    session: Callable[[], LabelingSession],
    acts: list[dict[str, Any]],
    answers: Answers,
    turn: Callable[[dict[str, Any]], None],
    queued: bool,
) -> None:
    """Do every act that has no answer yet, in order; ``turn`` does those that only change what the page shows.

    ``session`` gives a session made anew, which knows the role and the label set of this moment.
    """
    known = answers.known()
    for act in acts:
        if act["id"] in known:
            continue
        watch, outcome = metrics.Watch(), "saved"
        try:
            _do(session(), act, turn, queued)
            answers.saved.append(act["id"])
        except PosewatchError as error:
            outcome = "refused"
            answers.refused.append({"id": act["id"], "message": str(error)})
        kind = act.get("kind")
        metrics.saved(kind if kind in KINDS else "other", outcome, watch)
    answers.keep({act["id"] for act in acts})


KINDS = ("label", "adjudicate", "rest", "undo", "redo")


def _do(session: LabelingSession, act: Mapping[str, Any], turn: Callable[[dict[str, Any]], None], queued: bool) -> None:
    # nothing here is believed: the session checks the role, the classes and the clips
    kind, batch = act.get("kind"), str(act["id"])[:64]
    clip, label = str(act.get("clip"))[:64], act.get("label")
    label = None if label is None else str(label)[:200]
    if kind == "label":
        session.label(clip, label, str(act.get("how")), batch, queued)
    elif kind == "adjudicate":
        if label is not None:
            session.adjudicate(clip, label, batch)
    elif kind == "rest":
        clips = act.get("clips")
        session.rest([str(one) for one in clips[:MOST]] if isinstance(clips, list) else [], batch)
    elif kind == "undo":
        session.step("undo", batch)
    elif kind == "redo":
        session.step("redo", batch)
    else:
        turn(dict(act))


def shown(card: Card, base: str) -> dict[str, Any]:
    """A card as the browser gets it: no keys of the object store, only URLs that end."""
    entry, clip = card.entry, card.entry.clip
    skeleton = media.signed(entry.store, entry.skeleton, base) if entry.skeleton else None
    return {
        "id": clip.id,
        "video": entry.video,
        "start": clip.start_s,
        "end": clip.end_s,
        "fps": clip.fps,
        "people": clip.people,
        "url": media.clip_url(entry.store, entry.preview or entry.key, base),
        "skeleton": skeleton,
        "label": card.label,
        "who": card.who,
        "mine": card.mine,
        "source": card.source,
        "suggestion": card.suggestion,
        "confidence": card.confidence,
        "second": card.second,
        "held": card.held,
        "settled": card.settled,
        "votes": [list(vote) for vote in card.votes],
    }
