"""What one person does at the labeling page, without the page: pages of clips, labels, acts in bulk, undo, decisions.

All state lives in the label store, so a reload, a crash or a second tab loses nothing. Roles are enforced here, each
time anew, so that a role that is taken away ends at once, whatever page is still open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from posewatch.config import LabelConfig
from posewatch.errors import LabelError, NotAllowed
from posewatch.labels import undo
from posewatch.labels.cards import Card, cards
from posewatch.labels.db import tables
from posewatch.labels.db.projection import chunks
from posewatch.labels.entries import ADJUDICATE, UNSURE, VideoProgress
from posewatch.labels.queue import WorkQueue
from posewatch.labels.store import LabelStore, new_batch
from posewatch.labels.team import roles
from posewatch.records import LabelEvent

HOW = ("dropdown", "key", "brush", "label")
"""How a label may have been given."""


@dataclass(frozen=True)
class Page:
    """One page of a video's clips; ``number`` counts from 0, ``pages`` is at least 1."""

    cards: tuple[Card, ...]
    number: int
    pages: int
    labelled: int
    clips: int


class LabelingSession:
    """One person at work on a label store. Raises NotAllowed when ``who`` is empty or has no role."""

    def __init__(
        self, store: LabelStore, who: str, config: LabelConfig | None = None, page_size: int | None = None
    ) -> None:
        if not who.strip():
            raise NotAllowed("say who you are first: every label carries the name of who gave it")
        self.store, self.who, self.config = store, who.strip(), config or LabelConfig()
        self.page_size = page_size or self.config.page_size
        self.classes = self.config.classes
        self.queue = WorkQueue(store, self.config)
        roles.require(self.role, self.who, "label")

    @property
    def role(self) -> roles.Role:
        return roles.role_of(self.store, self.who)

    def _require(self, what: str) -> None:
        roles.require(self.role, self.who, what)

    # looking

    def videos(self) -> list[VideoProgress]:
        """The videos with their progress, by name; a moment old where there are millions of clips."""
        return self.store.slow.get("videos", self.store.videos)

    def left(self) -> int:
        """How many clips the queue could still give; where there are millions, to somebody, a moment ago."""
        return self.store.slow.get("left", lambda: self.queue.left(self.who))

    def page(self, video_id: str, number: int | None = None) -> Page:
        """Page ``number`` of a video's clips (clamped to what there is), or the first with work left on it."""
        ids, done = self._video(video_id)
        pages = max(1, -(-len(ids) // self.page_size))
        if number is None:
            open_ = next((i for i, clip in enumerate(ids) if clip not in done), 0)
            number = open_ // self.page_size
        number = min(max(number, 0), pages - 1)
        shown = ids[number * self.page_size : (number + 1) * self.page_size]
        return Page(self.cards(shown), number, pages, len(done), len(ids))

    def claim(self, keep: Iterable[str] = (), renew: bool = True) -> tuple[Card, ...]:
        """A page of the queue: the clips ``keep`` (those still on the page), then what the queue gives, in hand.

        ``renew``: what is kept stays in hand for the whole time again.
        """
        kept = list(keep)[: self.page_size]
        if kept and renew:
            self.queue.renew(self.who, kept)
        given = self.queue.claim(self.who, self.page_size - len(kept)) if len(kept) < self.page_size else []
        return self.cards([*kept, *(clip for clip in given if clip not in kept)])

    def cards(self, clip_ids: Iterable[str]) -> tuple[Card, ...]:
        """These clips as this person sees them, in the given order; clips that are gone are left out."""
        self._require("label")
        everything = roles.may(self.role, "see others")
        return cards(self.store, self.queue, list(clip_ids), self.who, self.config, everything)

    def around(self, clip_id: str, reach: int = 2) -> tuple[Card, ...]:
        """The clip with up to ``reach`` neighbours of the same video on each side, in the order of time."""
        entries = self.store.clips(clip_ids=[clip_id])
        if not entries:
            raise LabelError(f"no such clip: {clip_id}")
        ids, _ = self._video(entries[0].clip.video_id)
        at = ids.index(clip_id)
        return self.cards(ids[max(0, at - reach) : at + reach + 1])

    def disagreements(self) -> tuple[Card, ...]:
        """The clips on which people disagree, or of which all who saw them were unsure; for a reviewer."""
        self._require("adjudicate")
        status, clips = tables.status, tables.clips
        query = sa.select(status.c.clip_id).join(clips, clips.c.id == status.c.clip_id)
        query = query.where(sa.or_(status.c.differ, status.c.label == UNSURE), ~status.c.settled)
        query = query.order_by(clips.c.video_id, clips.c.start_s)
        return self.cards(self.store.database.read(lambda connection: connection.execute(query).scalars().all()))

    # labelling

    def label(
        self, clip_id: str, label: str | None, act: str = "label", batch: str | None = None, queued: bool = False
    ) -> LabelEvent | None:
        """Give a clip a label (a class or a mark), at once and for good; None takes one's own label back.

        ``batch`` names the act: given again it changes nothing. ``queued`` says that the clip came from the queue.
        Returns the event, if one was made. Raises LabelError, and NotAllowed when the role was taken away.
        """
        self._require("label")
        if act not in HOW:
            raise LabelError(f"unknown way of labelling {act!r} (known: {', '.join(HOW)})")
        if label is None:
            mine = self.store.states([clip_id]).get(clip_id)
            event = mine.votes.get(self.who) if mine else None
            return None if event is None else self.store.take_back(event, self.who, batch or new_batch())
        guard = self.queue.guard(self.who, strict=queued)
        made = self.store.set_labels(
            {clip_id: label}, self.who, "human", classes=self.classes, act=act, batch=batch, guard=guard
        )
        return made[0] if made else None

    def rest(self, clip_ids: Iterable[str], batch: str | None = None) -> list[LabelEvent]:
        """One explicit act: all of these clips that nobody has labelled are of the default class. Source "bulk"."""
        self._require("label")
        labels = dict.fromkeys(clip_ids, self.config.default)
        return self.store.set_labels(
            labels, self.who, "bulk", classes=self.classes, act="rest", batch=batch, guard=self.queue.spare(self.who)
        )

    def accept(
        self, threshold: float, clip_ids: Iterable[str] | None = None, batch: str | None = None
    ) -> list[LabelEvent]:
        """One explicit act: what the model says with at least ``threshold`` becomes the label, source "bulk".

        Of the clips that nobody has labelled; those of the random share stay, for they judge the model. Needs a
        reviewer. Each event carries the version of the model.
        """
        self._require("accept")
        if not 0.5 <= threshold <= 1:
            raise LabelError(f"the threshold of a bulk acceptance must be between 0.5 and 1, not {threshold:g}")
        table = tables.predictions
        query = sa.select(table.c.clip_id, table.c.probabilities, table.c.model_version).where(~table.c.random)
        parts = [query] if clip_ids is None else [query.where(table.c.clip_id.in_(c)) for c in chunks(list(clip_ids))]
        rows = self.store.database.read(lambda connection: [r for p in parts for r in connection.execute(p)])
        versions: dict[str, dict[str, str]] = {}
        for clip, probabilities, version in rows:
            best = max(probabilities, key=lambda name: probabilities[name])
            if probabilities[best] >= threshold and best in self.classes:
                versions.setdefault(version, {})[clip] = best
        made = []
        for version, labels in sorted(versions.items()):
            guard = self.queue.spare(self.who)
            made += self.store.set_labels(
                labels, self.who, "bulk", version, self.classes, act="accept", batch=batch, guard=guard
            )
        return made

    def adjudicate(self, clip_id: str, label: str, batch: str | None = None) -> LabelEvent | None:
        """Settle a clip, whatever anybody said; needs a reviewer."""
        self._require("adjudicate")
        if label == UNSURE:
            raise LabelError("a reviewer decides for a class or for a bad clip, not for unsure")
        made = self.store.set_labels(
            {clip_id: label}, self.who, "human", classes=self.classes, act=ADJUDICATE, batch=batch
        )
        return made[0] if made else None

    def step(self, direction: Literal["undo", "redo"], batch: str | None = None) -> list[LabelEvent]:
        """Undo or redo one's own last act, as a whole; what it made, nothing when there is nothing left."""
        self._require("label")
        return undo.step(self.store, self.who, direction, batch or new_batch())

    def appoint(self, who: str, role: str) -> None:
        """Give somebody a role; needs an admin."""
        self._require("grant")
        if who.strip() == self.who:
            raise NotAllowed("nobody changes their own role: ask another admin")
        roles.appoint(self.store, who, role, self.who)

    def _video(self, video_id: str) -> tuple[list[str], set[str]]:
        # the clips of a video in the order of time, and those of them that are labelled
        clips, status = tables.clips, tables.status
        query = (
            sa.select(clips.c.id, status.c.source, status.c.label)
            .outerjoin(status, status.c.clip_id == clips.c.id)
            .where(clips.c.video_id == video_id)
            .order_by(clips.c.start_s, clips.c.length_s)
        )
        rows = self.store.database.read(lambda connection: connection.execute(query).all())
        done = {clip for clip, source, label in rows if label not in (None, UNSURE) and source != "model"}
        return [clip for clip, _, _ in rows], done
