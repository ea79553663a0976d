"""The label store: the clips that can be labelled and every act of labelling, as append-only events.

The current label of a clip is a fold over its events (`entries.fold`). Every write is one transaction: when a method
returns, its events are durable, and writers in other threads, processes or pods neither lose nor overwrite them.
"""

from __future__ import annotations

from posewatch.labels.db.database import Database, select_ids  # first, because its error names the missing extra

# isort: split
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.db import projection, tables
from posewatch.labels.entries import (
    ADJUDICATE,
    MARKS,
    RANK,
    ClipEntry,
    ClipState,
    VideoProgress,
    fold,
    hash_fraction,
    timestamp,
)
from posewatch.labels.slow_counts import SlowCounts
from posewatch.names import nfc
from posewatch.records import Clip, LabelEvent, Source
from posewatch.units import PERSON, SCENE

CLASSES = LabelConfig().classes
_CLIP = [f.name for f in fields(Clip)]
_EVENT = [f.name for f in fields(LabelEvent) if f.name != "id"]

Guard = Callable[[sa.Connection, str, ClipState], bool]
"""Called inside the transaction before a clip is labelled: False skips the clip, LabelError cancels the act."""


class LabelStore:
    """Clips and label events in an SQL database.

    ``url`` is an SQLAlchemy URL (SQLite or PostgreSQL); the default is POSEWATCH_LABELS_URL, else ``labels.db`` in
    POSEWATCH_HOME or ``./.posewatch``. Missing tables are created, and tables of an older posewatch are migrated.
    Every method raises LabelError, in one line, when the database refuses or is unavailable.
    """

    def __init__(self, url: str | None = None) -> None:
        self.database = Database(url)
        self.url = self.database.url
        self.slow_counts = SlowCounts()

    @property
    def engine(self) -> sa.Engine:
        return self.database.engine

    def close(self) -> None:
        """Close the database connections; the store can be used again afterwards."""
        self.database.close()

    # clips

    def register(self, clips: Iterable[ClipEntry]) -> None:
        """Add clips. Registering a clip again changes only its names, keys and number of people."""
        rows = [
            {
                **entry.clip.to_dict(),
                "person": entry.clip.person,
                "names": list(entry.names),
                **{name: getattr(entry, name) for name in ("key", "store", "preview", "skeleton")},
                "double_draw": hash_fraction(entry.clip.id, "double"),
                "random_draw": hash_fraction(entry.clip.id, "random"),
            }
            for entry in clips
        ]
        if not rows:
            return
        insert = sqlite.insert if self.engine.dialect.name == "sqlite" else postgresql.insert
        statement: Any = insert(tables.clips)
        fixed = {
            "id",
            "video_id",
            "start_s",
            "length_s",
            "person",
            "double_draw",
            "random_draw",
        }  # the id determines them
        new = {c.name: statement.excluded[c.name] for c in tables.clips.c if c.name not in fixed}
        for name in ("preview", "skeleton"):  # a stage that creates none does not remove them
            new[name] = sa.func.coalesce(new[name], tables.clips.c[name])
        statement = statement.on_conflict_do_update(index_elements=["id"], set_=new)
        # sorted, so that two processes that register the same clips take PostgreSQL's row locks in one order
        rows.sort(key=lambda row: str(row["id"]))
        queue = insert(tables.waiting).on_conflict_do_nothing()
        waiting = [
            {"clip_id": row["id"], **{name: row[name] for name in ("video_id", "start_s", "double_draw")}}
            for row in rows
        ]

        def work(connection: sa.Connection) -> None:
            connection.execute(statement, rows)
            connection.execute(queue, waiting)

        self.database.write(work)

    def clips(self, video_id: str | None = None, clip_ids: Iterable[str] | None = None) -> list[ClipEntry]:
        """The registered clips, of one video, of ``clip_ids`` or of all, by video name, start and person."""
        query = sa.select(tables.clips)
        if video_id is not None:
            query = query.where(tables.clips.c.video_id == video_id)
        # sorted here, because databases sort text by locales of their own
        entries = [_entry(row) for row in self.database.rows(*select_ids(query, tables.clips.c.id, clip_ids))]
        return sorted(entries, key=lambda e: (e.video, e.clip.video_id, *e.clip.place))

    def video_ids(self, clip_ids: Collection[str] | None = None) -> dict[str, str]:
        """Clip id → video id of the registered clips among ``clip_ids``, or of all; uses less memory than `clips`."""
        clips = tables.clips.c
        rows = self.database.rows(*select_ids(sa.select(clips.id, clips.video_id), clips.id, clip_ids))
        return {clip: video for clip, video in rows}

    def persons(self, clip_ids: Collection[str] | None = None) -> dict[str, int | None]:
        """Clip id → the person that it shows alone, None for the scene, of the same clips as `video_ids`."""
        clips = tables.clips.c
        rows = self.database.rows(*select_ids(sa.select(clips.id, clips.person), clips.id, clip_ids))
        return {clip: person for clip, person in rows}

    def moments(self, clip_ids: Iterable[str]) -> dict[str, tuple[str, float]]:
        """Clip id → video and start, of those of these clips that show one person."""
        clips = tables.clips.c
        query = sa.select(clips.id, clips.video_id, clips.start_s).where(clips.person.is_not(None))
        rows = self.database.rows(*select_ids(query, clips.id, clip_ids))
        return {clip: (video, start) for clip, video, start in rows}

    def persons_by_video(self) -> dict[str, int]:
        """Video id → persons, of the videos whose clips show one person each."""
        clips = tables.clips.c
        query = sa.select(clips.video_id, sa.func.count(clips.person.distinct())).where(clips.person.is_not(None))
        return {video: int(count) for video, count in self.database.rows(query.group_by(clips.video_id))}

    def size(self) -> int:
        """The number of registered clips."""
        return int(self.database.rows(sa.select(sa.func.count()).select_from(tables.clips))[0][0])

    def units(self) -> set[str]:
        """What the clips show: "scene", "person", or both."""
        # both ends of the index, at one of which is NULL where there is any: two rows, however many clips there are
        person = tables.clips.c.person
        ends = (sa.select(person).order_by(order).limit(1) for order in (person.asc(), person.desc()))
        return {SCENE if one is None else PERSON for (one,) in self.database.rows(*ends)}

    def videos(self, unit: str = "") -> list[VideoProgress]:
        """The videos that have clips (of this unit), by name, with the number of labelled clips (model pre-labels not
        counted)."""
        # from the queue's narrow rows: a state above 0 means that a person or a file has labelled the clip
        clips, waiting = tables.clips, tables.waiting
        done = sa.func.sum(sa.case((waiting.c.state > 0, 1), else_=0)).label("done")
        first = sa.func.min(waiting.c.clip_id).label("first")
        groups = (
            sa.select(waiting.c.video_id, sa.func.count().label("clips"), done, first)
            .where(tables.is_of_unit(waiting.c.clip_id, unit))
            .group_by(waiting.c.video_id)
            .subquery()
        )
        query = sa.select(groups.c.video_id, groups.c.clips, groups.c.done, clips.c.names).join(
            clips, clips.c.id == groups.c.first
        )
        videos = [VideoProgress(video, names[0], n, done) for video, n, done, names in self.database.rows(query)]
        return sorted(videos, key=lambda v: (v.name, v.video_id))

    # labels

    def set_label(
        self,
        clip_id: str,
        label: str,
        who: str,
        source: Source,
        model_version: str | None = None,
        classes: Sequence[str] = CLASSES,
    ) -> LabelEvent | None:
        """Label one clip; see `set_labels`."""
        events = self.set_labels({clip_id: label}, who, source, model_version, classes)
        return events[0] if events else None

    def set_labels(
        self,
        labels: Mapping[str, str],
        who: str | Mapping[str, str],
        source: Source,
        model_version: str | None = None,
        classes: Sequence[str] = CLASSES,
        *,
        act: str = "label",
        batch: str | None = None,
        guard: Guard | None = None,
    ) -> list[LabelEvent]:
        """Label clips (id to class, or one of ``entries.MARKS``) in one transaction, all or none.

        ``who`` is the author, or that of each clip.
        Returns the events that were appended. There is no event where ``who`` has already given the same label, or
        where the label has precedence over ``source``: a model never replaces the label of a person or a file, an
        import never that of a person. ``batch`` identifies the act: repeated, as after a lost answer, it changes
        nothing and returns the events of the first time. Raises LabelError for a clip that is not registered, an
        unknown class, and a clip that a reviewer has settled.
        """
        known = {nfc(name): name for name in (*classes, *MARKS)}
        for label in labels.values():
            if nfc(label) not in known:
                raise LabelError(f"unknown class {label!r} (known: {', '.join(classes)})")
        labels = {clip: known[nfc(label)] for clip, label in labels.items()}
        batch = batch or new_batch()

        def work(connection: sa.Connection) -> list[LabelEvent]:
            history = self.lock_history(connection, labels)
            done = [e for events in history.values() for e in events if e.batch == batch]
            if done:
                return sorted(done, key=lambda e: e.id)
            events = []
            for clip, label in labels.items():
                state = fold(history.get(clip, ()))
                if guard is not None and not guard(connection, clip, state):
                    continue
                author = who if isinstance(who, str) else who[clip]
                if _changes(state, label, author, source, model_version, act):
                    old, when = state.label_name, timestamp()
                    events.append(LabelEvent(clip, old, label, author, when, source, model_version, act, batch))
            return self.append(connection, history, events)

        return self.database.write(work)

    def undo_event(self, event: LabelEvent, who: str, batch: str, act: str = "undo") -> LabelEvent:
        """Undo this event. A ``batch`` that was already done changes nothing and returns its event."""

        def work(connection: sa.Connection) -> LabelEvent:
            history = self.lock_history(connection, [event.clip_id])
            chain = history.get(event.clip_id, [])
            done = next((known for known in chain if known.batch == batch), None)
            undone = reversal(event, fold(chain).label_name, None, who, "human", act, batch)
            return done or self.append(connection, history, [undone])[0]

        return self.database.write(work)

    def current(self, clip_ids: Iterable[str] | None = None) -> dict[str, LabelEvent]:
        """The event that gives each labelled clip its label, by clip id; unlabelled clips are not in it."""
        events, status = tables.events, tables.status
        query = sa.select(events).join(status, status.c.event_id == events.c.id)
        rows = self.database.rows(*select_ids(query, status.c.clip_id, clip_ids))
        return {row.clip_id: projection.event_of(row) for row in rows}

    def states(self, clip_ids: Iterable[str]) -> dict[str, ClipState]:
        """The state of each clip that has events, by clip id."""
        histories = self.database.read(lambda connection: projection.history(connection, clip_ids))
        return {clip: fold(events) for clip, events in histories.items()}

    def disagreements(self, clip_ids: Iterable[str]) -> list[str]:
        """Those of the clips on which people disagree and that no reviewer has settled."""
        status, wanted = tables.status, set(clip_ids)
        query = sa.select(status.c.clip_id).where(status.c.differ).order_by(status.c.clip_id)
        return [clip for (clip,) in self.database.rows(query) if clip in wanted]

    def history(self, clip_id: str) -> list[LabelEvent]:
        """Every event of one clip, oldest first. Raises LabelError for a clip that is not registered."""

        def work(connection: sa.Connection) -> list[LabelEvent]:
            self._require_registered(connection, [clip_id])
            return projection.history(connection, [clip_id]).get(clip_id, [])

        return self.database.read(work)

    def counts(self, clip_ids: Iterable[str] | None = None, exclude_sources: Iterable[Source] = ()) -> dict[str, int]:
        """The number of clips per current label, in alphabetical order; marks are not counted."""
        status = tables.status
        is_class = sa.and_(status.c.label.not_in(MARKS), status.c.source.not_in(list(exclude_sources)))
        if clip_ids is None:
            query = sa.select(status.c.label, sa.func.count()).where(is_class).group_by(status.c.label)
            return {label: int(count) for label, count in sorted(self.database.rows(query))}
        # one scan of the labelled clips, however many clips are asked for: the gate polls this
        wanted = set(clip_ids)
        rows = self.database.rows(sa.select(status.c.clip_id, status.c.label).where(is_class))
        return dict(sorted(Counter(label for clip, label in rows if clip in wanted).items()))

    # inside a transaction

    def append(
        self, connection: sa.Connection, history: Mapping[str, list[LabelEvent]], events: Sequence[LabelEvent]
    ) -> list[LabelEvent]:
        """Append events to the ``history`` that `lock_history` returned, and update the derived tables."""
        if not events:
            return []
        rows = [{name: getattr(event, name) for name in _EVENT} for event in events]
        insert = tables.events.insert().returning(tables.events.c.id, sort_by_parameter_order=True)
        ids = connection.execute(insert, rows).scalars().all()
        stored = [replace(event, id=number) for event, number in zip(events, ids, strict=True)]
        after = {event.clip_id: list(history.get(event.clip_id, ())) for event in stored}
        for event in stored:
            after[event.clip_id].append(event)
        projection.write(connection, {clip: fold(chain) for clip, chain in after.items()})
        return stored

    def lock_history(self, connection: sa.Connection, ids: Collection[str]) -> dict[str, list[LabelEvent]]:
        """The events of clips, which nobody else can label until this transaction ends."""
        self._require_registered(connection, ids, lock=True)
        return projection.history(connection, ids)

    def _require_registered(self, connection: sa.Connection, ids: Collection[str], lock: bool = False) -> None:
        column = tables.clips.c.id
        registered: set[str] = set()
        for query in select_ids(sa.select(column).order_by(column), column, ids):
            registered.update(connection.execute(query.with_for_update() if lock else query).scalars())
        for clip in ids:
            if clip not in registered:
                total = connection.execute(sa.select(sa.func.count()).select_from(tables.clips)).scalar()
                raise LabelError(f"no such clip: {clip} (registered: {total}; run `posewatch prepare` or split first)")


def reversal(
    target: LabelEvent, old: str | None, new: str | None, who: str, source: Source, act: str, batch: str
) -> LabelEvent:
    """The undo (``new`` is None) or redo of the event ``target``, now."""
    return LabelEvent(target.clip_id, old, new, who, timestamp(), source, None, act, batch, target.reverts)


def new_batch() -> str:
    """A new identifier of one act."""
    return uuid.uuid4().hex


def _changes(state: ClipState, label: str, who: str, source: Source, model_version: str | None, act: str) -> bool:
    now = state.label
    if source in ("human", "bulk"):
        if state.settled and now is not None and act != ADJUDICATE:
            raise LabelError(f"clip {now.clip_id} was settled by {now.who}: a reviewer can adjudicate it again")
        mine = state.votes.get(who)
        return mine is None or (mine.new, mine.source) != (label, source) or act == ADJUDICATE
    if now is None:
        return True
    same = (now.new, now.source, now.model_version) == (label, source, model_version)
    return RANK[source] >= RANK[now.source] and not same


def _entry(row: Any) -> ClipEntry:
    clip = Clip(**{name: getattr(row, name) for name in _CLIP})
    return ClipEntry(clip, tuple(row.names), row.key, row.store, row.preview, row.skeleton)
