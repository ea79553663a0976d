"""The logic of the labeling page for one person: pages of clips, labels, bulk labels, undo, decisions of a reviewer.

All state lives in the label store, so a reload, a crash or a second tab loses nothing. Each call checks the role
again, so that a revoked role ends at once, whatever page is still open.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, NamedTuple

import sqlalchemy as sa

from posewatch.config import LabelConfig
from posewatch.errors import LabelError, NotAllowed
from posewatch.labels import find as finding
from posewatch.labels import notes, several, undo
from posewatch.labels import similar as alike
from posewatch.labels.acceptance import Acceptable, acceptable
from posewatch.labels.cards import Card, cards
from posewatch.labels.db import tables
from posewatch.labels.db.projection import event_of
from posewatch.labels.entries import ADJUDICATE, RELABEL, UNSURE, ClipState, VideoProgress, hash_fraction
from posewatch.labels.formats.importers import covers
from posewatch.labels.queue import WorkQueue
from posewatch.labels.store import LabelStore, new_batch
from posewatch.labels.team import roles
from posewatch.records import LabelEvent
from posewatch.units import SCENE

MOST_AT_ONCE = 5000
"""Clips that one act may relabel."""
ACTS = ("dropdown", "key", "brush", "label")
"""The ways of giving one label, which its event records as ``act``."""


@dataclass(frozen=True)
class Page:
    """One page of a video's clips; ``number`` counts from 0, ``pages`` is at least 1."""

    cards: tuple[Card, ...]
    number: int
    pages: int
    labelled: int
    clips: int


@dataclass(frozen=True)
class Moment:
    """Everybody at one moment of a video, by person; ``previous`` and ``next`` are clips of the moments around it."""

    cards: tuple[Card, ...]
    previous: str | None
    next: str | None


class _Place(NamedTuple):
    id: str
    start_s: float
    end_s: float
    person: int | None


class LabelingSession:
    """One person who labels. Raises NotAllowed when ``who`` is empty or has no role.

    In a store that has clips of scenes and of persons, only those of ``unit`` are offered and labelled: labels of the
    two do not mix.
    """

    def __init__(
        self,
        store: LabelStore,
        who: str,
        config: LabelConfig | None = None,
        page_size: int | None = None,
        unit: str = "",
    ) -> None:
        if not who.strip():
            raise NotAllowed("enter your name first: every label carries the name of its author")
        self.store, self.who, self.config = store, roles.known_as(store, who.strip()), config or LabelConfig()
        self.page_size = page_size or self.config.page_size
        self.classes = self.config.classes
        mixed = bool(unit) and len(store.units()) > 1
        self.unit = unit if mixed else ""
        self.queue = WorkQueue(store, self.config, unit=self.unit)
        roles.require(self.role, self.who, "label")

    @property
    def role(self) -> roles.Role:
        return roles.role_of(self.store, self.who)

    def _require(self, what: str) -> None:
        roles.require(self.role, self.who, what)

    def _require_unit(self, clip_ids: Collection[str]) -> None:
        for clip in sorted(self._strange(clip_ids)):
            shows = ("one person", "whole scenes") if self.unit == SCENE else ("a whole scene", "single persons")
            raise LabelError(f"clip {clip} shows {shows[0]}, and this experiment labels {shows[1]} (mask.unit)")

    def _strange(self, clip_ids: Collection[str]) -> set[str]:
        """Those of these clips that are of the other unit."""
        persons = self.store.persons(clip_ids) if self.unit else {}
        return {clip for clip, person in persons.items() if (person is None) != (self.unit == SCENE)}

    # clips

    def videos(self) -> list[VideoProgress]:
        """The videos with their progress, by name; cached for a moment where there are millions of clips."""
        return self.store.slow_counts.get(f"videos {self.unit}", lambda: self.store.videos(self.unit))

    def remaining(self) -> int:
        """The number of clips that the queue could still give; an approximation where there are millions (cached)."""
        return self.store.slow_counts.get(f"left {self.unit}", lambda: self.queue.remaining(self.who))

    def page(self, video_id: str, number: int | None = None) -> Page:
        """Page ``number`` of a video's clips (clamped to the last), or the first with an unlabelled clip on it."""
        ids, done = self._video(video_id)
        pages = max(1, -(-len(ids) // self.page_size))
        if number is None:
            open_ = next((i for i, clip in enumerate(ids) if clip not in done), 0)
            number = open_ // self.page_size
        number = min(max(number, 0), pages - 1)
        shown = ids[number * self.page_size : (number + 1) * self.page_size]
        return Page(self.cards(shown), number, pages, len(done), len(ids))

    def page_of(self, video_id: str, clip_id: str) -> int | None:
        """The number of the page of this video that shows a clip; None for a clip of another video."""
        ids, _ = self._video(video_id)
        return ids.index(clip_id) // self.page_size if clip_id in ids else None

    def claim(self, keep: Iterable[str] = (), renew: bool = True) -> tuple[Card, ...]:
        """A page of the queue: the clips ``keep`` (still on the page), then newly claimed ones.

        ``renew`` restarts the time of the claims on ``keep``.
        """
        page = list(keep)[: self.page_size]
        if page and renew:
            self.queue.renew(self.who, page)
        claimed = self.queue.claim(self.who, self.page_size - len(page)) if len(page) < self.page_size else []
        found = self.cards([*page, *(clip for clip in claimed if clip not in page)])
        moments = groupby(found, key=lambda card: (card.entry.clip.video_id, card.entry.clip.start_s))
        return tuple(card for _, group in moments for card in sorted(group, key=lambda card: card.entry.clip.place))

    def cards(self, clip_ids: Iterable[str]) -> tuple[Card, ...]:
        """These clips as this person sees them while they label, in the given order; unknown clips are left out."""
        self._require("label")
        return cards(self.store, self.queue, list(clip_ids), self.who, self.config, False)

    def neighbours(self, clip_id: str, reach: int = 2) -> tuple[Card, ...]:
        """The clip with up to ``reach`` neighbours of the same video, and person, on each side, by time."""
        clips = self._around(clip_id)
        person = next(clip.person for clip in clips if clip.id == clip_id)
        ids = [clip.id for clip in clips if clip.person == person]
        at = ids.index(clip_id)
        return self.cards(ids[max(0, at - reach) : at + reach + 1])

    def moment(self, clip_id: str) -> Moment:
        """The clip with those of all other persons of its video at the same moment.

        Of each other person the clip that overlaps this one most, from half of its length on.
        """
        clips = self._around(clip_id)
        here = next(clip for clip in clips if clip.id == clip_id)
        clips = [clip for clip in clips if (clip.person is None) == (here.person is None)]
        length_s = here.end_s - here.start_s
        together = {here.person: (length_s, here.id)}
        for clip in clips:
            shared = min(clip.end_s, here.end_s) - max(clip.start_s, here.start_s)
            if clip.person != here.person and shared >= length_s / 2:
                together[clip.person] = max(together.get(clip.person, (0.0, "")), (shared, clip.id))
        ids = [clip.id for clip in sorted(clips, key=lambda one: one.person or 0)]
        shown = {clip for _, clip in together.values()}
        others = [clip for clip in clips if clip.id not in shown]
        return Moment(
            self.cards(clip for clip in ids if clip in shown),
            next((clip.id for clip in reversed(others) if clip.start_s < here.start_s), None),
            next((clip.id for clip in others if clip.start_s > here.start_s), None),
        )

    def _around(self, clip_id: str) -> list[_Place]:
        """All clips of the video of a clip, by time and person."""
        clips = tables.clips.c
        video = self.store.video_ids([clip_id]).get(clip_id)
        if video is None:
            raise LabelError(f"no such clip: {clip_id}")
        query = sa.select(clips.id, clips.start_s, clips.start_s + clips.length_s, clips.person)
        rows = self.store.database.rows(query.where(clips.video_id == video))
        return sorted((_Place(*row) for row in rows), key=lambda one: (one.start_s, one.end_s, one.person or 0))

    def find(self, wanted: finding.Filter, size: int, after: str = "", before: str = "") -> finding.Found:
        """A page of the clips of a filter; needs a reviewer."""
        self._require("see others")
        return finding.find(self.store, wanted, self.who, self.config.double, size, after, before, self.unit)

    def count(self, wanted: finding.Filter) -> int:
        """The number of clips of a filter, at most ``finding.MOST`` + 1; needs a reviewer."""
        self._require("see others")
        return finding.count(self.store, wanted, self.who, self.config.double, self.unit)

    def found_cards(self, clip_ids: Iterable[str]) -> tuple[Card, ...]:
        """These clips with everybody's labels, but for those whose second opinion this reviewer could still give."""
        self._require("see others")
        wanted = list(clip_ids)
        strange = self._strange(wanted)
        ids = [clip for clip in wanted if clip not in strange]
        hidden = finding.blind_clips(self.store, ids, self.who, self.config.double)
        shown = cards(self.store, self.queue, [c for c in ids if c not in hidden], self.who, self.config, True)
        waiting = tables.waiting.c
        query = sa.select(waiting.clip_id, waiting.predicted, waiting.score).where(waiting.clip_id.in_(ids))
        told = {
            row.clip_id: {"suggestion": row.predicted, "confidence": row.score}
            for row in self.store.database.rows(query)
        }
        found = {card.entry.clip.id: replace(card, **told[card.entry.clip.id]) for card in shown}
        found |= {card.entry.clip.id: card for card in self.cards(clip for clip in ids if clip in hidden)}
        return tuple(found[clip] for clip in ids if clip in found)

    def similar(self, clip_id: str) -> tuple[Card, ...]:
        """The clips that look most like this one to a model, nearest first, as this person sees them."""
        return self.cards(alike.similar(self.store, clip_id, unit=self.unit))

    def disagreements(self) -> tuple[Card, ...]:
        """The clips on which people disagree, or that everybody was unsure of; for a reviewer."""
        self._require("adjudicate")
        status, clips = tables.status, tables.clips
        query = sa.select(status.c.clip_id).join(clips, clips.c.id == status.c.clip_id)
        query = query.where(sa.or_(status.c.differ, status.c.label == UNSURE), ~status.c.settled)
        query = query.where(tables.is_of_unit(status.c.clip_id, self.unit))
        query = query.order_by(clips.c.video_id, clips.c.start_s, clips.c.person)
        clips_ = [clip for (clip,) in self.store.database.rows(query)]
        return cards(self.store, self.queue, clips_, self.who, self.config, True)

    # labelling

    def label(
        self,
        clip_id: str,
        label: str | None,
        act: str = "label",
        batch: str | None = None,
        queued: bool = False,
        seen: bool = False,
    ) -> LabelEvent | None:
        """Give a clip a label (a class or a mark), durable on return; None undoes one's own label.

        ``batch`` identifies the act: repeated, it changes nothing. ``queued``: the clip came from the queue. ``seen``:
        the page showed somebody else's label of it, so that this one is no independent opinion. Returns the new event,
        if any. Raises LabelError, and NotAllowed when the role was revoked.
        """
        self._require("label")
        self._require_unit([clip_id])
        if act not in ACTS:
            raise LabelError(f"unknown way of labelling {act!r} (known: {', '.join(ACTS)})")
        if label is None:
            state = self.store.states([clip_id]).get(clip_id)
            event = state.votes.get(self.who) if state else None
            return None if event is None else self.store.undo_event(event, self.who, batch or new_batch(), undo.REMOVE)
        guard = self.queue.guard(self.who, strict=queued)
        events = self.store.set_labels(
            {clip_id: label},
            self.who,
            "human",
            classes=self.classes,
            act=RELABEL if seen else act,
            batch=batch,
            guard=guard,
        )
        return events[0] if events else None

    def label_remaining(self, clip_ids: Iterable[str], batch: str | None = None) -> list[LabelEvent]:
        """Label all of these clips that nobody has labelled with the default class: one act, source "bulk"."""
        self._require("label")
        labels, guard = dict.fromkeys(clip_ids, self.config.default), self.queue.bulk_guard(self.who)
        self._require_unit(labels)
        return self.store.set_labels(
            labels, self.who, "bulk", classes=self.classes, act="rest", batch=batch, guard=guard
        )

    def accept(
        self, threshold: float, clip_ids: Iterable[str] | None = None, batch: str | None = None
    ) -> list[LabelEvent]:
        """Accept the model's predictions with a confidence of at least ``threshold``: one act, source "bulk".

        Applies to clips that nobody has labelled, without the random share, which evaluates the model. Needs a
        reviewer. Each event carries the version of the model.
        """
        self._require("accept")
        if not 0.5 <= threshold <= 1:
            raise LabelError(f"the threshold of a bulk acceptance must be between 0.5 and 1, not {threshold:g}")
        done = [] if batch is None else self._events_of(batch)
        if done:
            return done
        versions: dict[str, dict[str, str]] = {}
        for one in acceptable(self.store, self.classes, threshold, clip_ids, self.unit):
            versions.setdefault(one.version, {})[one.clip_id] = one.label
        events, guard = [], self.queue.bulk_guard(self.who)
        for version, labels in sorted(versions.items()):
            events += self.store.set_labels(
                labels, self.who, "bulk", version, self.classes, act="accept", batch=batch, guard=guard
            )
        return events

    def acceptable(self, threshold: float) -> list[Acceptable]:
        """What `accept` would accept now, apart from clips that somebody has claimed; needs a reviewer."""
        self._require("accept")
        return acceptable(self.store, self.classes, threshold, unit=self.unit)

    def _events_of(self, batch: str) -> list[LabelEvent]:
        query = sa.select(tables.events).where(tables.events.c.batch == batch).order_by(tables.events.c.id)
        return [event_of(row) for row in self.store.database.rows(query)]

    def adjudicate(self, clip_id: str, label: str, batch: str | None = None) -> LabelEvent | None:
        """Settle a clip, whatever labels it has; needs a reviewer."""
        self._require("adjudicate")
        self._require_unit([clip_id])
        if label == UNSURE:
            raise LabelError("a reviewer settles a clip with a class or as a bad clip, not as unsure")
        events = self.store.set_labels(
            {clip_id: label}, self.who, "human", classes=self.classes, act=ADJUDICATE, batch=batch
        )
        return events[0] if events else None

    def relabel(self, clip_ids: Iterable[str], label: str, batch: str | None = None) -> list[LabelEvent]:
        """Settle several clips as one act, see `several.relabel`; needs a reviewer."""
        self._require("adjudicate")
        ids, batch = list(clip_ids), batch or new_batch()
        self._require_unit(ids)
        return several.relabel(self.store, ids, label, self.who, self.classes, self.config.double, batch)

    def relabel_found(
        self, wanted: finding.Filter, until: str, label: str, batch: str | None = None
    ) -> list[LabelEvent]:
        """Settle all clips of a filter whose label has not changed since ``until`` (ISO, UTC); needs a reviewer."""
        self._require("adjudicate")
        done = [] if batch is None else self._events_of(batch)
        if done:
            return done
        ids = finding.everything(self.store, wanted, self.who, self.config.double, until, MOST_AT_ONCE, self.unit)
        return self.relabel(ids, label, batch)

    def label_interval(
        self,
        clip_ids: Iterable[str],
        since: float,
        until: float,
        label: str,
        batch: str | None = None,
        seen: Collection[str] = (),
    ) -> list[LabelEvent]:
        """Label those of the clips of one video that [since, until) seconds cover, as one act, see `label_several`."""
        clips = [entry.clip for entry in self.store.clips(clip_ids=clip_ids)]
        least = self.config.min_overlap_s
        ids = [clip.id for clip in clips if covers(since, until, clip.start_s, clip.end_s, least)]
        if not ids or len({clip.video_id for clip in clips}) > 1:
            raise LabelError(f"no clip of one video lies between {since:g} and {until:g} s: reload the page")
        return self.label_several(ids, label, "interval", batch, seen)

    def label_several(
        self, clip_ids: Iterable[str], label: str, way: str, batch: str | None = None, seen: Collection[str] = ()
    ) -> list[LabelEvent]:
        """Label several clips as one act, see `several.label_several`."""
        self._require("label")
        if way not in several.WAYS:
            raise LabelError(f"unknown way of labelling {way!r} (known: {', '.join(several.WAYS)})")
        ids, batch = list(clip_ids), batch or new_batch()
        self._require_unit(ids)
        return several.label_several(self.store, self.queue, ids, label, self.who, way, batch, seen)

    def step(
        self, direction: Literal["undo", "redo"], batch: str | None = None, act: str | None = None
    ) -> list[LabelEvent]:
        """Undo or redo one's own last act as a whole; returns the new events, none when there is nothing to do.

        ``act`` (a batch) names the act to undo or redo instead.
        """
        self._require("label")
        return undo.step(self.store, self.who, direction, batch or new_batch(), act)

    # notes

    def comment(self, clip_id: str, text: str, batch: str | None = None) -> None:
        """Write a comment on a clip; ``batch`` as in `label`."""
        self._require("label")
        notes.add_comment(self.store, clip_id, self.who, text, batch or new_batch())

    @property
    def may_see_raw(self) -> bool:
        """Whether this person may look at the unmasked video around a clip (``labels.raw_scene``)."""
        return roles.at_least(self.role, self.config.raw_scene)

    def look(self, clip_id: str, batch: str | None = None) -> None:
        """Record a look at the unmasked video around a clip; ``batch`` as in `label`. Raises NotAllowed."""
        if not self.may_see_raw:
            raise NotAllowed(f"{self.who} may not look at unmasked video: labels.raw_scene is {self.config.raw_scene}")
        notes.look(self.store, clip_id, self.who, batch or new_batch())

    def example(self, clip_id: str, label: str | None, batch: str | None = None) -> None:
        """Make a clip an example of its label in the guidelines, or (None) no example any more; needs a reviewer.

        Everybody sees the examples, so a clip that two people label is none before a reviewer has settled it.
        """
        self._require("guide")
        state = self.store.states([clip_id]).get(clip_id, ClipState())
        if label is not None and (label not in self.classes or state.label_name != label):
            raise LabelError(f"clip {clip_id} is not labelled {label!r}: an example shows a clip with its label")
        if label is not None and hash_fraction(clip_id, "double") < self.config.double and not state.settled:
            raise LabelError(f"clip {clip_id} is labelled by two people: settle it before it becomes an example")
        notes.mark_example(self.store, clip_id, label, self.who, batch or new_batch())

    def examples(self) -> dict[str, list[str]]:
        """The clips that are examples of each class, by class."""
        return notes.examples(self.store, self.config)

    def set_role(self, who: str, role: str) -> None:
        """Give somebody a role; needs an admin."""
        self._require("grant")
        if roles.known_as(self.store, who.strip()) == self.who:
            raise NotAllowed("nobody changes their own role: ask another admin")
        roles.set_role(self.store, who, role, self.who)

    def _video(self, video_id: str) -> tuple[list[str], set[str]]:
        """The clips of a video by time, and those of them that are labelled."""
        clips, status = tables.clips, tables.status
        query = (
            sa.select(clips.c.id, status.c.source, status.c.label)
            .outerjoin(status, status.c.clip_id == clips.c.id)
            .where(clips.c.video_id == video_id, tables.is_of_unit(clips.c.id, self.unit))
            .order_by(clips.c.start_s, clips.c.length_s, clips.c.person)
        )
        rows = self.store.database.rows(query)
        done = {clip for clip, source, label in rows if label not in (None, UNSURE) and source != "model"}
        return [clip for clip, _, _ in rows], done
