"""Passes the browser's acts to the session, and the session's cards to the browser."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from labeling_ui import media, metrics
from posewatch.errors import PosewatchError
from posewatch.labels.cards import Card
from posewatch.labels.session import LabelingSession

MAX_CLIPS = 500
"""Clips that one act may name."""
KINDS = ("label", "adjudicate", "rest", "undo", "redo")
_SAME = ("label", "who", "mine", "source", "suggestion", "confidence", "second", "held", "settled")
"""Attributes of a card that the browser gets unchanged."""


@dataclasses.dataclass
class Answers:
    """The server's answers to the acts in the outbox: saved, or refused with a reason."""

    saved: list[str] = dataclasses.field(default_factory=list)
    refused: list[dict[str, str]] = dataclasses.field(default_factory=list)

    def ids(self) -> set[str]:
        """The ids of the answered acts."""
        return {*self.saved, *(row["id"] for row in self.refused)}

    def retain(self, ids: set[str]) -> None:
        """Delete the answers to acts that have left the outbox."""
        self.saved = [one for one in self.saved if one in ids]
        self.refused = [row for row in self.refused if row["id"] in ids]


def handle(
    session: Callable[[], LabelingSession],
    acts: list[dict[str, Any]],
    answers: Answers,
    navigate: Callable[[dict[str, Any]], None],
    queued: bool,
) -> None:
    """Execute every act that has no answer yet, in order; ``navigate`` handles those that only change the view.

    ``session`` returns a new session, which has the current role and label set.
    """
    answered = answers.ids()
    for act in acts:
        if act["id"] in answered:
            continue
        with metrics.timed("act"):
            outcome = "saved"
            try:
                _execute(session(), act, navigate, queued)
                answers.saved.append(act["id"])
            except PosewatchError as error:
                outcome = "refused"
                answers.refused.append({"id": act["id"], "message": str(error)})
        kind = act.get("kind")
        metrics.ACTS.labels(kind if kind in KINDS else "other", outcome).inc()
    answers.retain({act["id"] for act in acts})


def _execute(
    session: LabelingSession, act: Mapping[str, Any], navigate: Callable[[dict[str, Any]], None], queued: bool
) -> None:
    # the act is untrusted: the session checks the role, the classes and the clips
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
        session.label_remaining([str(one) for one in clips[:MAX_CLIPS]] if isinstance(clips, list) else [], batch)
    elif kind == "undo":
        session.step("undo", batch)
    elif kind == "redo":
        session.step("redo", batch)
    else:
        navigate(dict(act))


def context(session: LabelingSession, clip: Any, base: str) -> dict[str, Any] | None:
    """A clip with those before and after it, as the browser shows them; None without a clip."""
    if not clip:
        return None
    return {"clip": clip, "cards": [payload(card, base) for card in session.neighbours(str(clip))]}


def payload(card: Card, base: str) -> dict[str, Any]:
    """A card as the browser gets it: no keys of the object store, only URLs that expire."""
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
        "votes": [list(vote) for vote in card.votes],
        **{name: getattr(card, name) for name in _SAME},
    }
