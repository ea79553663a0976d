"""Clips that look alike to a model: the embeddings of its predictions, stored so that the nearest are found fast.

As in an inverted file index (Jégou et al., PAMI 33, 2011): some clips are centres, each clip belongs to the nearest
centre, and a search compares with the clips of the nearest cells only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from posewatch.labels.db import tables
from posewatch.labels.db.database import chunks, select_ids

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

CELLS = 8
"""Cells that a search looks into."""
MOST_CENTRES = 1000
_PART = 10_000


def save(connection: sa.Connection, clip_ids: Sequence[str], embeddings: NDArray[Any] | None, version: str) -> None:
    """Replace the embeddings (N, D) of these clips, or (None) only delete the old ones."""
    table = tables.embeddings
    for chunk in chunks(clip_ids):
        connection.execute(table.delete().where(table.c.clip_id.in_(chunk)))
    if embeddings is None or not len(clip_ids):
        return
    points = _unit(np.asarray(embeddings, np.float32))
    # ids are hashes, so the first of them are a random sample
    order = np.argsort(np.array(clip_ids))
    centres = order[: min(MOST_CENTRES, max(1, round(len(order) ** 0.5)))]
    for start in range(0, len(clip_ids), _PART):
        part = points[start : start + _PART]
        nearest = centres[(part @ points[centres].T).argmax(1)]
        rows = [
            {
                "clip_id": clip_ids[start + i],
                "model_version": version,
                "cell": clip_ids[centre],
                "vector": part[i].astype("<f2").tobytes(),
            }
            for i, centre in enumerate(nearest.tolist())
        ]
        connection.execute(table.insert(), rows)


def similar(store: LabelStore, clip_id: str, count: int = 12, unit: str = "") -> list[str]:
    """The clips (of this unit) that look most like this one to the model that saw it last, nearest first.

    Nothing where none did.
    """
    table = tables.embeddings.c
    mine = store.database.rows(sa.select(table.model_version, table.vector).where(table.clip_id == clip_id))
    if not mine:
        return []
    version, vector = mine[0]
    point = _vectors([vector])[0]
    centres, places = store.slow_counts.get(f"centres {version}", lambda: _centres(store, version))
    near = [centres[i] for i in np.argsort(-(places @ point), kind="stable")[:CELLS]]
    query = sa.select(table.clip_id, table.vector).where(table.model_version == version, table.cell.in_(near))
    query = query.where(tables.is_of_unit(table.clip_id, unit))
    rows = [row for row in store.database.rows(query.order_by(table.clip_id)) if row.clip_id != clip_id]
    if not rows:
        return []
    found = np.argsort(-(_vectors([row.vector for row in rows]) @ point), kind="stable")[:count]
    return [rows[i].clip_id for i in found]


def _centres(store: LabelStore, version: str) -> tuple[list[str], NDArray[np.float32]]:
    table = tables.embeddings.c
    cells = store.database.rows(sa.select(table.cell).where(table.model_version == version).distinct())
    query = sa.select(table.clip_id, table.vector).where(table.model_version == version)
    rows = store.database.rows(*select_ids(query, table.clip_id, (cell for (cell,) in cells)))
    return [row.clip_id for row in rows], _vectors([row.vector for row in rows])


def _vectors(rows: Iterable[bytes]) -> NDArray[np.float32]:
    return np.stack([np.frombuffer(row, "<f2") for row in rows]).astype(np.float32)


def _unit(points: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.where(lengths > 1e-12, lengths, 1), np.float32)
