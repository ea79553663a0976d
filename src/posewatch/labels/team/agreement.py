"""Agreement between people on the clips that several labelled: Cohen's kappa per pair, Fleiss' kappa, per class too.

scikit-learn has only Cohen's kappa, and the labeling page does not install it for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from posewatch.labels.db import tables
from posewatch.labels.entries import DEPENDENT, UNSURE

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

Opinions = Mapping[str, Mapping[str, str]]
"""Clip id → person → label."""


@dataclass(frozen=True)
class Pair:
    """Two people: the number of clips that both labelled (unsure does not count), and Cohen's kappa (None: undefined).

    ``per_class`` is the kappa of each class against all others.
    """

    one: str
    other: str
    clips: int
    kappa: float | None
    per_class: dict[str, float | None]


@dataclass(frozen=True)
class Agreement:
    """Of ``clips`` labelled by two or more people, they disagree on ``differ``.

    ``per_class`` is Fleiss' kappa of each class against all others.
    """

    clips: int
    differ: int
    fleiss: float | None
    per_class: dict[str, float | None]
    pairs: tuple[Pair, ...]


def opinions(store: LabelStore, unit: str = "") -> dict[str, dict[str, str]]:
    """The independent labels of the clips that two or more people labelled: no decisions, nothing but first sight.

    A label whose author saw somebody else's, or accepted a model's, is left out, and so is unsure. ``unit``: only of
    clips of whole scenes or of single persons.
    """
    votes, events = tables.votes, tables.events
    query = sa.select(votes.c.clip_id, votes.c.who, votes.c.label).join(events, events.c.id == votes.c.event_id)
    query = query.where(votes.c.label != UNSURE, events.c.act.not_in(DEPENDENT)).order_by(votes.c.clip_id, votes.c.who)
    query = query.where(tables.is_of_unit(votes.c.clip_id, unit))
    labels: dict[str, dict[str, str]] = {}
    for clip, who, label in store.database.rows(query):
        labels.setdefault(clip, {})[who] = label
    return {clip: by_person for clip, by_person in labels.items() if len(by_person) > 1}


def cohen(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Cohen's kappa (Educ. Psychol. Meas. 20, 1960) of two people's labels of the same clips.

    None without clips, and where chance agreement is 1 (both used one and the same label only).
    """
    if not one:
        return None
    a, b = np.array(one), np.array(other)
    observed = float((a == b).mean())
    chance = float(sum((a == label).mean() * (b == label).mean() for label in {*one, *other}))
    return None if chance >= 1 else (observed - chance) / (1 - chance)


def fleiss(counts: np.ndarray) -> float | None:
    """Fleiss' kappa (Psychol. Bull. 76, 1971) of ``counts`` (N, K): how many people gave clip n the label k.

    The number of people, at least two, may differ between clips; chance agreement follows from all labels given. None
    where it is undefined.
    """
    people = counts.sum(1)
    counts = counts[people >= 2].astype(float)
    if not len(counts):
        return None
    people = counts.sum(1)
    observed = ((counts**2).sum(1) - people) / (people * (people - 1))
    share = counts.sum(0) / counts.sum()
    chance = float((share**2).sum())
    return None if chance >= 1 - 1e-12 else (float(observed.mean()) - chance) / (1 - chance)


def agreement(labels: Opinions) -> Agreement:
    """The agreement on ``labels``, as `opinions` returns them."""
    rows = [list(row.values()) for row in labels.values()]
    names = sorted({label for row in rows for label in row})
    counts = np.array([[row.count(name) for name in names] for row in rows]).reshape(len(rows), len(names))
    people = sorted({who for row in labels.values() for who in row})
    pairs = []
    for one, other in combinations(people, 2):
        both = [(row[one], row[other]) for row in labels.values() if one in row and other in row]
        if both:
            a, b = zip(*both, strict=True)
            each = {name: cohen([str(x == name) for x in a], [str(x == name) for x in b]) for name in names}
            pairs.append(Pair(one, other, len(both), cohen(a, b), each))
    per_class = {
        name: fleiss(np.stack([counts[:, k], counts.sum(1) - counts[:, k]], 1)) for k, name in enumerate(names)
    }
    differ = sum(len(set(row)) > 1 for row in rows)
    return Agreement(len(rows), differ, fleiss(counts) if rows else None, per_class, tuple(pairs))
