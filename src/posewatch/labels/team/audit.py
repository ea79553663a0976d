"""The audit trail: every act of labelling and every role that was given, as it happened, exported whole."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from posewatch.errors import LabelError
from posewatch.labels.db import projection, tables
from posewatch.records import LabelEvent

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

COLUMNS = ("id", "when", "who", "act", "clip_id", "old", "new", "source", "model_version", "batch", "undoes")
SUFFIXES = (".csv", ".jsonl", ".parquet")


def events(store: LabelStore) -> list[LabelEvent]:
    """All label events, oldest first."""
    query = sa.select(tables.events).order_by(tables.events.c.id)
    rows = store.database.read(lambda connection: connection.execute(query).mappings().all())
    return [projection.event_of(row) for row in rows]


def trail(store: LabelStore) -> list[dict[str, Any]]:
    """Rows with the columns ``COLUMNS``, by time: label events, and roles given (act "grant", new is the role).

    In the row of a grant ``clip_id`` is empty, ``who`` gave the role and ``batch`` names who got it.
    """
    rows: list[dict[str, Any]] = []
    for event in events(store):
        told = dataclasses.asdict(event)
        rows.append({name: told[name] for name in COLUMNS})
    query = sa.select(tables.grants).order_by(tables.grants.c.id)
    for row in store.database.read(lambda connection: connection.execute(query).mappings().all()):
        found: dict[str, Any] = dict.fromkeys(COLUMNS)
        found.update(
            {"id": row["id"], "when": row["when"], "who": row["by"], "act": "grant", "new": row["role"]},
            source="human",
            batch=row["who"],
        )
        rows.append(found)
    return sorted(rows, key=lambda row: (row["when"], row["act"] == "grant", row["id"]))


def text(rows: list[dict[str, Any]], suffix: str) -> bytes:
    """Rows as the bytes of a .csv or .jsonl file. In a csv, text that a spreadsheet would run gets a leading quote."""
    if suffix == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _tame(value) for name, value in row.items()} for row in rows)
    return out.getvalue().encode()


def _tame(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value


def export(store: LabelStore, path: str | Path) -> int:
    """Write the trail to a .csv, .jsonl or .parquet file, whole or not at all; returns the number of rows."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise LabelError(f"the audit trail is written as {', '.join(SUFFIXES)}, not {path.name!r}")
    rows = trail(store)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            kinds = {name: pa.int64() if name in ("id", "undoes") else pa.string() for name in COLUMNS}
            columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()}
            pq.write_table(pa.table(columns), temporary, compression="zstd")
        else:
            temporary.write_bytes(text(rows, suffix))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return len(rows)
