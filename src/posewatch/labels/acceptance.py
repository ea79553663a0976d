"""Bulk acceptance: which predictions of a model would become labels, and a sample of them to look at first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from posewatch.labels.db import tables
from posewatch.labels.db.database import select_ids

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore


@dataclass(frozen=True)
class Acceptable:
    """A prediction that can be accepted: the class ``label`` with this ``confidence``, by the model ``version``."""

    clip_id: str
    label: str
    confidence: float
    version: str


def acceptable(
    store: LabelStore,
    classes: Collection[str],
    threshold: float,
    clip_ids: Iterable[str] | None = None,
    unit: str = "",
) -> list[Acceptable]:
    """The predictions of ``classes`` with at least this confidence, of clips that no person and no file has labelled.

    Without the random share, which evaluates the model. Of ``clip_ids``, or of all clips; of one ``unit``.
    """
    table, waiting = tables.predictions, tables.waiting
    query = sa.select(table.c.clip_id, table.c.probabilities, table.c.model_version)
    query = query.join(waiting, waiting.c.clip_id == table.c.clip_id).where(~table.c.random, waiting.c.state == 0)
    query = query.where(tables.is_of_unit(table.c.clip_id, unit))
    found = []
    for clip, probabilities, version in store.database.rows(*select_ids(query, table.c.clip_id, clip_ids)):
        label = max(probabilities, key=probabilities.__getitem__)
        if probabilities[label] >= threshold and label in classes:
            found.append(Acceptable(clip, label, probabilities[label], version))
    return found


def sample(found: Iterable[Acceptable], count: int = 6) -> dict[str, list[Acceptable]]:
    """Up to ``count`` of each class, least confident first, spread evenly over the confidence of all."""
    by_class: dict[str, list[Acceptable]] = {}
    for one in sorted(found, key=lambda one: (one.label, one.confidence, one.clip_id)):
        by_class.setdefault(one.label, []).append(one)
    return {label: _spread(rows, count) for label, rows in by_class.items()}


def _spread(rows: Sequence[Acceptable], count: int) -> list[Acceptable]:
    if len(rows) <= count:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (count - 1))] for i in range(count)]
