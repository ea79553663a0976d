"""What one labeler does at the labeling page, without the page: pages of clips, labels, undo and progress.

All state lives in the label store, so a reload, a crash or a second tab loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.entries import ClipEntry, VideoProgress
from posewatch.labels.store import LabelStore
from posewatch.records import LabelEvent

PAGE_SIZE = 12


@dataclass(frozen=True)
class Card:
    """A clip as the labeler sees it: ``label`` counts, ``suggestion`` is only what a model says of it."""

    entry: ClipEntry
    label: str | None = None
    who: str = ""
    source: str = ""
    suggestion: str | None = None


@dataclass(frozen=True)
class Page:
    """One page of a video's clips; ``number`` counts from 0, ``pages`` is at least 1."""

    cards: tuple[Card, ...]
    number: int
    pages: int
    labelled: int
    clips: int


class LabelingSession:
    """One labeler at work on a label store. Raises LabelError when ``who`` is empty."""

    def __init__(
        self, store: LabelStore, who: str, config: LabelConfig | None = None, page_size: int = PAGE_SIZE
    ) -> None:
        if not who.strip():
            raise LabelError("say who you are first: every label carries the name of who gave it")
        self.store, self.who, self.page_size = store, who.strip(), page_size
        self.classes = (config or LabelConfig()).classes

    def videos(self) -> list[VideoProgress]:
        """The videos with their progress, by name."""
        return self.store.videos()

    def page(self, video_id: str, number: int | None = None) -> Page:
        """Page ``number`` of a video's clips (clamped to what there is), or the first with work left on it."""
        entries = self.store.clips(video_id)
        now = self.store.current([e.clip.id for e in entries])
        cards = [_card(entry, now.get(entry.clip.id)) for entry in entries]
        pages = max(1, -(-len(cards) // self.page_size))
        if number is None:
            open_ = [i for i, card in enumerate(cards) if card.label is None]
            number = open_[0] // self.page_size if open_ else 0
        number = min(max(number, 0), pages - 1)
        shown = cards[number * self.page_size : (number + 1) * self.page_size]
        return Page(tuple(shown), number, pages, sum(c.label is not None for c in cards), len(cards))

    def label(self, clip_id: str, label: str | None) -> LabelEvent | None:
        """Give a clip a label, at once and for good; None takes its label back. Returns the event, if one was made."""
        if label is not None:
            return self.store.set_label(clip_id, label, self.who, "human", classes=self.classes)
        now = self.store.current([clip_id]).get(clip_id)
        return None if now is None or now.source == "model" else self.store.undo(clip_id, self.who)


def _card(entry: ClipEntry, event: LabelEvent | None) -> Card:
    if event is None:
        return Card(entry)
    if event.source == "model":
        return Card(entry, suggestion=event.new, who=event.model_version or event.who, source="model")
    return Card(entry, label=event.new, who=event.who, source=event.source)
