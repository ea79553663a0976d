"""The label store: the clips that can be labelled and every act of labelling, as append-only events.

The current label of a clip is a fold over its events (`entries.state`). Every write is one transaction: when a method
returns, its events are durable, and writers in other threads, processes or pods neither lose nor overwrite them.
"""

from __future__ import annotations

from posewatch.labels.db.database import Database  # first, because it says which extra is missing

# isort: split
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.db import projection, tables
from posewatch.labels.db.projection import chunks
from posewatch.labels.entries import ADJUDICATE, MARKS, RANK, ClipEntry, State, VideoProgress, draw, state
from posewatch.labels.slow_counts import Reused
from posewatch.records import Clip, LabelEvent, Source

__all__ = ["ClipEntry", "LabelStore", "VideoProgress"]

CLASSES = LabelConfig().classes
_CLIP = [f.name for f in fields(Clip)]
_EVENT = [f.name for f in fields(LabelEvent) if f.name != "id"]

Guard = Callable[[sa.Connection, str, State], bool]
"""Asked, inside the transaction, before a clip is labelled: False leaves the clip out, LabelError stops the act."""


class LabelStore:
    """Clips and label events in an SQL database.

    ``url`` is an SQLAlchemy URL (SQLite or PostgreSQL); without one it is POSEWATCH_LABELS_URL, else
    ``labels.db`` in POSEWATCH_HOME or ``./.posewatch``. The tables are created when there are none, and brought up to
    date when an older posewatch made them. Every method raises LabelError, in one line, when the database refuses or
    cannot be reached.
    """

    def __init__(self, url: str | None = None) -> None:
        self.database = Database(url)
        self.url = self.database.url
        self.slow = Reused()

    @property
    def engine(self) -> sa.Engine:
        return self.database.engine

    def close(self) -> None:
        """Give the database connections back; the store can be used again afterwards."""
        self.database.close()

    # clips

    def register(self, clips: Iterable[ClipEntry]) -> None:
        """Make clips known. Registering one again changes nothing but its names, places and people."""
        rows = [
            {
                **entry.clip.to_dict(),
                "names": list(entry.names),
                **{name: getattr(entry, name) for name in ("key", "store", "preview", "skeleton")},
                "double_draw": draw(entry.clip.id, "double"),
                "random_draw": draw(entry.clip.id, "random"),
            }
            for entry in clips
        ]
        if not rows:
            return
        insert = sqlite.insert if self.engine.dialect.name == "sqlite" else postgresql.insert
        statement: Any = insert(tables.clips)
        kept = {"id", "video_id", "start_s", "length_s", "double_draw", "random_draw"}  # the id follows from them
        new = {c.name: statement.excluded[c.name] for c in tables.clips.c if c.name not in kept}
        for name in ("preview", "skeleton"):  # a stage that makes none does not take them away
            new[name] = sa.func.coalesce(new[name], tables.clips.c[name])
        statement = statement.on_conflict_do_update(index_elements=["id"], set_=new)
        # sorted, so that two processes that register the same clips take PostgreSQL's row locks in one order
        rows.sort(key=lambda row: str(row["id"]))
        queue = insert(tables.waiting).on_conflict_do_nothing()
        places = [
            {"clip_id": row["id"], **{name: row[name] for name in ("video_id", "start_s", "double_draw")}}
            for row in rows
        ]

        def work(connection: sa.Connection) -> None:
            connection.execute(statement, rows)
            connection.execute(queue, places)

        self.database.write(work)

    def clips(self, video_id: str | None = None, clip_ids: Iterable[str] | None = None) -> list[ClipEntry]:
        """The registered clips, of one video, of ``clip_ids`` or of all, by video name and start."""
        table = tables.clips
        query = sa.select(table)
        if video_id is not None:
            query = query.where(table.c.video_id == video_id)
        parts = [query] if clip_ids is None else [query.where(table.c.id.in_(c)) for c in chunks(sorted(set(clip_ids)))]

        def work(connection: sa.Connection) -> list[ClipEntry]:
            return [_entry(row) for part in parts for row in connection.execute(part).mappings()]

        # sorted here, because databases sort text by locales of their own
        found = self.database.read(work)
        return sorted(found, key=lambda e: (e.video, e.clip.video_id, e.clip.start_s, e.clip.length_s))

    def video_ids(self, clip_ids: Collection[str] | None = None) -> dict[str, str]:
        """Clip id → video id of the registered clips among ``clip_ids``, or of all; far less than `clips` holds."""
        table = tables.clips
        query = sa.select(table.c.id, table.c.video_id)
        parts = [query] if clip_ids is None else [query.where(table.c.id.in_(c)) for c in chunks(sorted(set(clip_ids)))]

        def work(connection: sa.Connection) -> dict[str, str]:
            return {row[0]: row[1] for part in parts for row in connection.execute(part)}

        return self.database.read(work)

    def size(self) -> int:
        """How many clips are registered."""
        count = sa.select(sa.func.count()).select_from(tables.clips)
        return int(self.database.read(lambda connection: connection.execute(count).scalar()) or 0)

    def videos(self) -> list[VideoProgress]:
        """The videos that have clips, by name, with how many of them are labelled (model pre-labels not counted)."""
        # from the queue's narrow rows, of which a state above 0 says just this: somebody, or a file, labelled the clip
        clips, waiting = tables.clips, tables.waiting
        done = sa.func.sum(sa.case((waiting.c.state > 0, 1), else_=0)).label("done")
        first = sa.func.min(waiting.c.clip_id).label("first")
        groups = (
            sa.select(waiting.c.video_id, sa.func.count().label("clips"), done, first)
            .group_by(waiting.c.video_id)
            .subquery()
        )
        query = sa.select(groups.c.video_id, groups.c.clips, groups.c.done, clips.c.names).join(
            clips, clips.c.id == groups.c.first
        )
        rows = self.database.read(lambda connection: connection.execute(query).all())
        return sorted(
            (VideoProgress(video, names[0], total, labelled) for video, total, labelled, names in rows),
            key=lambda v: (v.name, v.video_id),
        )

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
        made = self.set_labels({clip_id: label}, who, source, model_version, classes)
        return made[0] if made else None

    def set_labels(
        self,
        labels: Mapping[str, str],
        who: str,
        source: Source,
        model_version: str | None = None,
        classes: Sequence[str] = CLASSES,
        *,
        act: str = "label",
        batch: str | None = None,
        guard: Guard | None = None,
    ) -> list[LabelEvent]:
        """Label clips (id to class, or one of ``entries.MARKS``) in one transaction, all or none.

        Returns the events that were appended. No event is made where ``who`` already said the same, or where the label
        stands above ``source``: a model never replaces the label of a person or a file, an import never that of a
        person. ``batch`` names the act: given again, as after an answer that was lost, it changes nothing and returns
        what it made the first time. Raises LabelError for a clip that is not registered, an unknown class, and a clip
        that a reviewer has settled.
        """
        for label in labels.values():
            if label not in classes and label not in MARKS:
                raise LabelError(f"unknown class {label!r} (known: {', '.join(classes)})")
        batch = batch or new_batch()

        def work(connection: sa.Connection) -> list[LabelEvent]:
            history = self.locked(connection, labels)
            done = [e for events in history.values() for e in events if e.batch == batch]
            if done:
                return sorted(done, key=lambda e: e.id)
            made = []
            for clip, label in labels.items():
                found = state(history.get(clip, ()))
                if guard is not None and not guard(connection, clip, found):
                    continue
                if _changes(found, label, who, source, model_version, act):
                    old = found.label.new if found.label else None
                    made.append(LabelEvent(clip, old, label, who, _now(), source, model_version, act, batch))
            return self.append(connection, history, made)

        return self.database.write(work)

    def undo(self, clip_id: str, who: str) -> LabelEvent | None:
        """Take the clip's current label back, whoever gave it; the label before it counts again.

        Returns the event (its ``new`` is None), or None when the clip has no label.
        """
        return self._take_back(clip_id, lambda found: found.label, who, new_batch())

    def take_back(self, event: LabelEvent, who: str, batch: str) -> LabelEvent | None:
        """Take back this very event; what it made the first time when ``batch`` names an act that was done."""
        return self._take_back(event.clip_id, lambda _: event, who, batch)

    def _take_back(
        self, clip_id: str, choose: Callable[[State], LabelEvent | None], who: str, batch: str
    ) -> LabelEvent | None:
        def work(connection: sa.Connection) -> LabelEvent | None:
            history = self.locked(connection, [clip_id])
            chain = history.get(clip_id, [])
            done = [event for event in chain if event.batch == batch]
            found = state(chain)
            target = choose(found)
            if done or target is None:
                return done[0] if done else None
            old = found.label.new if found.label else None
            event = self.event(clip_id, old, None, who, "human", "undo", batch, target.id)
            return self.append(connection, history, [event])[0]

        return self.database.write(work)

    def current(self, clip_ids: Iterable[str] | None = None) -> dict[str, LabelEvent]:
        """The event that gives each labelled clip its label, by clip id; unlabelled clips are not in it."""
        events, status = tables.events, tables.status
        query = sa.select(events).join(status, status.c.event_id == events.c.id)
        parts = [query]
        if clip_ids is not None:
            parts = [query.where(status.c.clip_id.in_(c)) for c in chunks(sorted(set(clip_ids)))]

        def work(connection: sa.Connection) -> list[LabelEvent]:
            return [projection.event_of(row) for part in parts for row in connection.execute(part).mappings()]

        return {event.clip_id: event for event in self.database.read(work)}

    def states(self, clip_ids: Iterable[str]) -> dict[str, State]:
        """Who says what of each clip, by clip id, folded from its events."""
        found = self.database.read(lambda connection: projection.history(connection, clip_ids))
        return {clip: state(events) for clip, events in found.items()}

    def differing(self, clip_ids: Iterable[str]) -> list[str]:
        """Those of the clips on which people disagree, and no reviewer has decided."""
        status, wanted = tables.status, set(clip_ids)
        query = sa.select(status.c.clip_id).where(status.c.differ).order_by(status.c.clip_id)
        rows = self.database.read(lambda connection: connection.execute(query).scalars().all())
        return [clip for clip in rows if clip in wanted]

    def history(self, clip_id: str) -> list[LabelEvent]:
        """Every event of one clip, oldest first. Raises LabelError for a clip that is not registered."""

        def work(connection: sa.Connection) -> list[LabelEvent]:
            self._known(connection, [clip_id])
            return projection.history(connection, [clip_id]).get(clip_id, [])

        return self.database.read(work)

    def counts(self, clip_ids: Iterable[str] | None = None, exclude_sources: Iterable[Source] = ()) -> dict[str, int]:
        """How many clips have each label now, by label in alphabetical order; marks are not counted."""
        status = tables.status
        real = sa.and_(status.c.label.not_in(MARKS), status.c.source.not_in(list(exclude_sources)))
        if clip_ids is None:
            query = sa.select(status.c.label, sa.func.count()).where(real).group_by(status.c.label)
            found = self.database.read(lambda connection: connection.execute(query).all())
            return {label: int(count) for label, count in sorted(tuple(row) for row in found)}
        # one walk over what is labelled, however many clips are asked for: the gate asks again and again
        wanted, rows = set(clip_ids), sa.select(status.c.clip_id, status.c.label).where(real)
        labels = self.database.read(lambda connection: [row[1] for row in connection.execute(rows) if row[0] in wanted])
        return dict(sorted(Counter(labels).items()))

    # inside a transaction

    def append(
        self, connection: sa.Connection, history: Mapping[str, list[LabelEvent]], made: Sequence[LabelEvent]
    ) -> list[LabelEvent]:
        """Add events to the ``history`` that `locked` gave, and bring what follows from them up to date."""
        if not made:
            return []
        rows = [{name: getattr(event, name) for name in _EVENT} for event in made]
        insert = tables.events.insert().returning(tables.events.c.id, sort_by_parameter_order=True)
        ids = connection.execute(insert, rows).scalars().all()
        events = [replace(event, id=number) for event, number in zip(made, ids, strict=True)]
        after = {event.clip_id: list(history.get(event.clip_id, ())) for event in events}
        for event in events:
            after[event.clip_id].append(event)
        projection.write(connection, {clip: state(chain) for clip, chain in after.items()})
        return events

    @staticmethod
    def event(
        clip_id: str, old: str | None, new: str | None, who: str, source: Source, act: str, batch: str, undoes: int
    ) -> LabelEvent:
        """An undo or a redo of the event ``undoes``, made now."""
        return LabelEvent(clip_id, old, new, who, _now(), source, None, act, batch, undoes)

    def locked(self, connection: sa.Connection, ids: Collection[str]) -> dict[str, list[LabelEvent]]:
        """The events of clips that nobody else can label until this transaction ends."""
        self._known(connection, ids, lock=True)
        return projection.history(connection, ids)

    def _known(self, connection: sa.Connection, ids: Collection[str], lock: bool = False) -> None:
        column = tables.clips.c.id
        found: set[str] = set()
        for chunk in chunks(sorted(set(ids))):
            query = sa.select(column).where(column.in_(chunk)).order_by(column)
            found.update(connection.execute(query.with_for_update() if lock else query).scalars())
        for clip in ids:
            if clip not in found:
                total = connection.execute(sa.select(sa.func.count()).select_from(tables.clips)).scalar()
                raise LabelError(f"no such clip: {clip} (registered: {total}; run `posewatch prepare` or split first)")


def new_batch() -> str:
    """A name for one act."""
    return uuid.uuid4().hex


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _changes(found: State, label: str, who: str, source: Source, model_version: str | None, act: str) -> bool:
    if source in ("human", "bulk"):
        if found.settled and act != ADJUDICATE:
            assert found.label is not None
            raise LabelError(
                f"clip {found.label.clip_id} was settled by {found.label.who}: a reviewer can adjudicate it again"
            )
        mine = found.votes.get(who)
        return mine is None or (mine.new, mine.source) != (label, source) or act == ADJUDICATE
    now = found.label
    if now is None:
        return True
    return RANK[source] >= RANK[now.source] and (now.new, now.source, now.model_version) != (
        label,
        source,
        model_version,
    )


def _entry(row: Mapping[Any, Any]) -> ClipEntry:
    clip = Clip(**{name: row[name] for name in _CLIP})
    return ClipEntry(clip, tuple(row["names"]), row["key"], row["store"], row["preview"], row["skeleton"])
