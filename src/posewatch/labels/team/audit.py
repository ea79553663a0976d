"""The audit trail: every act of labelling, every comment and every grant of a role since the beginning, as a table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from posewatch.errors import LabelError
from posewatch.files import write_atomically
from posewatch.labels import notes, verdicts
from posewatch.labels.db import projection, tables
from posewatch.labels.formats.rows import csv_text, write_table
from posewatch.records import LabelEvent

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

COLUMNS = ("id", "when", "who", "act", "clip_id", "old", "new", "source", "model_version", "batch", "undoes")
SUFFIXES = (".csv", ".jsonl", ".parquet")


def events(store: LabelStore) -> list[LabelEvent]:
    """All label events, oldest first."""
    return [
        projection.event_of(row) for row in store.database.rows(sa.select(tables.events).order_by(tables.events.c.id))
    ]


def trail(store: LabelStore) -> list[dict[str, Any]]:
    """Rows with the columns ``COLUMNS``, by time: label events, comments and examples (`notes.trail`), verdicts on
    alarms (`verdicts.trail`), and grants of roles (act "grant", new is the role).

    In the row of a grant ``clip_id`` is empty, ``who`` granted the role and ``batch`` names the person who got it.
    """
    rows = [*(dataclasses.asdict(event) for event in events(store)), *notes.trail(store), *verdicts.trail(store)]
    for grant in store.database.rows(sa.select(tables.grants).order_by(tables.grants.c.id)):
        row = {"id": grant.id, "when": grant.when, "who": grant.by, "act": "grant", "new": grant.role}
        rows.append({**row, "source": "human", "batch": grant.who})
    rows.sort(key=lambda row: (row["when"], row["act"] == "grant", row["id"]))
    return [{name: row.get(name) for name in COLUMNS} for row in rows]


def as_bytes(rows: list[dict[str, Any]], suffix: str) -> bytes:
    """The content of a .csv or .jsonl file."""
    if suffix == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    return csv_text(COLUMNS, rows).encode()


def export(store: LabelStore, path: str | Path) -> int:
    """Write the trail to a .csv, .jsonl or .parquet file, whole or not at all; returns the number of rows."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise LabelError(f"the audit trail is written as {', '.join(SUFFIXES)}, not {path.name!r}")
    rows = trail(store)
    if suffix == ".parquet":
        write_table(path, COLUMNS, rows, integers=("id", "undoes"))
    else:
        write_atomically(path, as_bytes(rows, suffix))
    return len(rows)
