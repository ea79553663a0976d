"""What people do beside labels: comments on clips, which clips are examples of a class, looks at unmasked video.

All three are append-only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from posewatch.errors import LabelError
from posewatch.labels.db import tables
from posewatch.labels.db.database import select_ids
from posewatch.labels.entries import timestamp

if TYPE_CHECKING:
    from posewatch.config import LabelConfig
    from posewatch.labels.store import LabelStore

MAX_COMMENT = 2000
"""Characters of one comment."""


@dataclass(frozen=True)
class Comment:
    """What ``who`` wrote about a clip, ``when`` in UTC as ISO 8601."""

    clip_id: str
    who: str
    when: str
    text: str


def comments(store: LabelStore, clip_ids: Iterable[str] | None = None) -> dict[str, list[Comment]]:
    """The comments on these clips, or on all, oldest first, by clip id."""
    table = tables.comments
    query = sa.select(table).order_by(table.c.id)
    found: dict[str, list[Comment]] = {}
    for row in store.database.rows(*select_ids(query, table.c.clip_id, clip_ids)):
        found.setdefault(row.clip_id, []).append(Comment(row.clip_id, row.who, row.when, row.text))
    return found


def add_comment(store: LabelStore, clip_id: str, who: str, text: str, batch: str) -> None:
    """Add a comment. ``batch`` identifies the act: repeated, it changes nothing. Raises LabelError."""
    text = text.strip()
    if not text:
        raise LabelError("a comment needs a text: write something first")
    if len(text) > MAX_COMMENT:
        raise LabelError(f"a comment has at most {MAX_COMMENT} characters, not {len(text)}: shorten it")
    _append(store, tables.comments, {"clip_id": clip_id, "who": who, "text": text, "batch": batch})


def examples(store: LabelStore, config: LabelConfig) -> dict[str, list[str]]:
    """The clips that are examples of each class, by class: those of the configuration, then those of the page.

    What was said last on the page about a clip counts, also where the configuration names it.
    """
    table = tables.examples
    rows = store.database.rows(sa.select(table.c.clip_id, table.c.label).order_by(table.c.id))
    said = {clip: label for clip, label in rows}
    found = {name: [one for one in about.examples if one not in said] for name, about in config.guide.items()}
    for clip, label in said.items():
        if label in config.classes:
            found.setdefault(label, []).append(clip)
    return {name: clips for name, clips in found.items() if clips}


def mark_example(store: LabelStore, clip_id: str, label: str | None, who: str, batch: str) -> None:
    """Make a clip an example of ``label``, or (None) no example any more; ``batch`` as in `add_comment`."""
    _append(store, tables.examples, {"clip_id": clip_id, "who": who, "label": label, "batch": batch})


def look(store: LabelStore, clip_id: str, who: str, batch: str) -> None:
    """Record that ``who`` looks at the unmasked video around a clip; ``batch`` as in `add_comment`."""
    _append(store, tables.looks, {"clip_id": clip_id, "who": who, "batch": batch})


def trail(store: LabelStore) -> list[dict[str, Any]]:
    """Every comment (act "comment", new is the text), every change of the examples (act "example", new is the class,
    None for no example any more) and every look at unmasked video (act "raw") as rows of the audit trail."""
    rows = []
    for table, act, column in (
        (tables.comments, "comment", "text"), (tables.examples, "example", "label"), (tables.looks, "raw", ""),
    ):  # fmt: skip
        for row in store.database.rows(sa.select(table).order_by(table.c.id)):
            about = {"id": row.id, "when": row.when, "who": row.who, "act": act, "clip_id": row.clip_id}
            rows.append(
                {**about, "new": getattr(row, column) if column else None, "source": "human", "batch": row.batch}
            )
    return rows


def _append(store: LabelStore, table: sa.Table, row: dict[str, Any]) -> None:
    def work(connection: sa.Connection) -> None:
        store.lock_history(connection, [row["clip_id"]])
        if connection.execute(sa.select(table.c.id).where(table.c.batch == row["batch"])).first() is None:
            connection.execute(table.insert(), {**row, "when": timestamp()})

    store.database.write(work)
