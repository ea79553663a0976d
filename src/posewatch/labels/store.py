"""The label store: the clips that can be labelled and every act of labelling, as append-only events.

The current label of a clip is a fold over its events (`entries.fold`). Every write is one transaction: when a method
returns, its events are durable, and writers in other threads, processes or pods neither lose nor overwrite them.
"""

from __future__ import annotations

from posewatch.labels import schema  # first, because it says which extra is missing

# isort: split
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.entries import RANK, ClipEntry, VideoProgress, fold
from posewatch.records import Clip, LabelEvent, Source

__all__ = ["ClipEntry", "LabelStore", "VideoProgress"]

CLASSES = LabelConfig().classes
_CLIP = [f.name for f in fields(Clip)]
_EVENT = [f.name for f in fields(LabelEvent)]
_CHUNK = 500  # ids per statement: below every database's limit on parameters

T = TypeVar("T")


class LabelStore:
    """Clips and label events in an SQL database.

    ``url`` is an SQLAlchemy URL (SQLite or PostgreSQL); without one it is POSEWATCH_LABELS_URL, else
    ``labels.db`` in POSEWATCH_HOME or ``./.posewatch``. The tables are created when there are none. Every method
    raises LabelError, in one line, when the database refuses or cannot be reached.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = url or schema.default_url()
        self._engine = schema.connect(self.url)

    def close(self) -> None:
        """Give the database connections back; the store can be used again afterwards."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, write: bool = False) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect().execution_options(write=write) as connection, connection.begin():
                yield connection
        except sa.exc.DBAPIError as error:
            name = self._engine.url.render_as_string(hide_password=True)
            raise LabelError(f"the label store at {name} failed: {schema.reason(error)}") from error

    # clips

    def register(self, clips: Iterable[ClipEntry]) -> None:
        """Make clips known. Registering one again changes nothing but its names, place and people."""
        rows = [{**e.clip.to_dict(), "names": list(e.names), "key": e.key, "store": e.store} for e in clips]
        if not rows:
            return
        insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        statement = insert(schema.clips)
        kept = {"id", "video_id", "start_s", "length_s"}  # the id follows from them
        statement = statement.on_conflict_do_update(
            index_elements=["id"],
            set_={c.name: statement.excluded[c.name] for c in schema.clips.c if c.name not in kept},
        )
        with self._transaction(write=True) as connection:
            # sorted, so that two processes that register the same clips take PostgreSQL's row locks in one order
            connection.execute(statement, sorted(rows, key=lambda row: row["id"]))

    def clips(self, video_id: str | None = None) -> list[ClipEntry]:
        """The registered clips, of one video or of all, by video name and start."""
        table = schema.clips
        query = sa.select(table)
        if video_id is not None:
            query = query.where(table.c.video_id == video_id)
        with self._transaction() as connection:
            found = [_entry(row) for row in connection.execute(query).mappings()]
        # sorted here, because databases sort text by locales of their own
        return sorted(found, key=lambda e: (e.video, e.clip.video_id, e.clip.start_s, e.clip.length_s))

    def videos(self) -> list[VideoProgress]:
        """The videos that have clips, by name, with how many of them are labelled (model pre-labels not counted)."""
        labelled = {c for c, event in self.current().items() if event.source != "model"}
        out = []
        for (name, video), group in groupby(self.clips(), key=lambda e: (e.video, e.clip.video_id)):
            ids = [e.clip.id for e in group]
            out.append(VideoProgress(video, name, len(ids), sum(c in labelled for c in ids)))
        return out

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
    ) -> list[LabelEvent]:
        """Label clips (id to class) in one transaction, all or none; returns the events that were appended.

        No event is made where the same source already said the same, or where the label stands above ``source``:
        a model never replaces the label of a person or a file, an import never that of a person. Raises LabelError
        for a clip that is not registered and for an unknown class.
        """
        for label in labels.values():
            if label not in classes:
                raise LabelError(f"unknown class {label!r} (known: {', '.join(classes)})")
        made = []
        with self._transaction(write=True) as connection:
            history = self._locked(connection, labels)
            for clip, label in labels.items():
                now = fold(history.get(clip, ()))
                if now and (RANK[source] < RANK[now.source] or _same(now, label, source, model_version)):
                    continue
                made.append(LabelEvent(clip, now.new if now else None, label, who, _now(), source, model_version))
            _append(connection, made)
        return made

    def undo(self, clip_id: str, who: str) -> LabelEvent | None:
        """Take the clip's current label back, whoever gave it; the label before it counts again.

        Returns the event (its ``new`` is None), or None when the clip has no label.
        """
        with self._transaction(write=True) as connection:
            now = fold(self._locked(connection, [clip_id]).get(clip_id, ()))
            if now is None:
                return None
            event = LabelEvent(clip_id, now.new, None, who, _now(), "human")
            _append(connection, [event])
        return event

    def current(self, clip_ids: Iterable[str] | None = None) -> dict[str, LabelEvent]:
        """The event that gives each labelled clip its label, by clip id; unlabelled clips are not in it."""
        with self._transaction() as connection:
            history = _history(connection, clip_ids)
        folded = {clip: fold(events) for clip, events in history.items()}
        return {clip: event for clip, event in folded.items() if event is not None}

    def history(self, clip_id: str) -> list[LabelEvent]:
        """Every event of one clip, oldest first. Raises LabelError for a clip that is not registered."""
        with self._transaction() as connection:
            self._known(connection, [clip_id])
            return _history(connection, [clip_id]).get(clip_id, [])

    def counts(self, clip_ids: Iterable[str] | None = None, exclude_sources: Iterable[Source] = ()) -> dict[str, int]:
        """How many clips have each label now, by label in alphabetical order."""
        out: dict[str, int] = {}
        without = set(exclude_sources)
        for event in self.current(clip_ids).values():
            if event.new is not None and event.source not in without:
                out[event.new] = out.get(event.new, 0) + 1
        return dict(sorted(out.items()))

    # inside a transaction

    def _locked(self, connection: sa.Connection, ids: Collection[str]) -> dict[str, list[LabelEvent]]:
        # the events of clips that nobody else can label until this transaction ends
        self._known(connection, ids, lock=True)
        return _history(connection, ids)

    def _known(self, connection: sa.Connection, ids: Collection[str], lock: bool = False) -> None:
        column = schema.clips.c.id
        found: set[str] = set()
        for chunk in _chunks(sorted(set(ids))):
            query = sa.select(column).where(column.in_(chunk)).order_by(column)
            found.update(connection.execute(query.with_for_update() if lock else query).scalars())
        for clip in ids:
            if clip not in found:
                total = connection.execute(sa.select(sa.func.count()).select_from(schema.clips)).scalar()
                raise LabelError(f"no such clip: {clip} (registered: {total}; run `posewatch prepare` or split first)")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _same(now: LabelEvent, label: str, source: Source, model_version: str | None) -> bool:
    return (now.new, now.source, now.model_version) == (label, source, model_version)


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]


def _entry(row: Mapping[Any, Any]) -> ClipEntry:
    return ClipEntry(Clip(**{name: row[name] for name in _CLIP}), tuple(row["names"]), row["key"], row["store"])


def _append(connection: sa.Connection, events: Sequence[LabelEvent]) -> None:
    if events:
        connection.execute(schema.events.insert(), [{name: getattr(e, name) for name in _EVENT} for e in events])


def _history(connection: sa.Connection, ids: Iterable[str] | None) -> dict[str, list[LabelEvent]]:
    table = schema.events
    query = sa.select(*(table.c[name] for name in _EVENT)).order_by(table.c.id)
    out: dict[str, list[LabelEvent]] = {}
    parts = [query] if ids is None else [query.where(table.c.clip_id.in_(c)) for c in _chunks(sorted(set(ids)))]
    for part in parts:
        for row in connection.execute(part).mappings():
            out.setdefault(row["clip_id"], []).append(LabelEvent(**row))
    return out
