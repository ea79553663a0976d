"""How well people agree on what they labelled both: Cohen's kappa of two, Fleiss' kappa of many, per class too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from posewatch.labels.db import tables
from posewatch.labels.entries import UNSURE

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

Opinions = Mapping[str, Mapping[str, str]]
"""Clip id → person → label."""


@dataclass(frozen=True)
class Pair:
    """Two people: on how many clips both were sure, and Cohen's kappa (None where it is not defined).

    ``per_class`` is that of each class against all others.
    """

    one: str
    other: str
    clips: int
    kappa: float | None
    per_class: dict[str, float | None]


@dataclass(frozen=True)
class Agreement:
    """``clips`` were labelled by two people or more, who disagree on ``differ`` of them.

    ``per_class`` is Fleiss' kappa of each class against all others.
    """

    clips: int
    differ: int
    fleiss: float | None
    per_class: dict[str, float | None]
    pairs: tuple[Pair, ...]


def opinions(store: LabelStore) -> dict[str, dict[str, str]]:
    """Who says what, of the clips that two people or more were sure of; the decisions of reviewers are no opinions."""
    votes, events = tables.votes, tables.events
    query = sa.select(votes.c.clip_id, votes.c.who, votes.c.label).join(events, events.c.id == votes.c.event_id)
    query = query.where(votes.c.label != UNSURE, events.c.act != "adjudicate").order_by(votes.c.clip_id, votes.c.who)
    out: dict[str, dict[str, str]] = {}
    for clip, who, label in store.database.read(lambda connection: connection.execute(query).all()):
        out.setdefault(clip, {})[who] = label
    return {clip: said for clip, said in out.items() if len(said) > 1}


def cohen(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Cohen's kappa (Educ. Psychol. Meas. 20, 1960) of two people's labels of the same clips.

    None without clips, and where chance alone would agree always (both used one and the same label only).
    """
    if not one:
        return None
    names = sorted({*one, *other})
    a = np.array([names.index(label) for label in one])
    b = np.array([names.index(label) for label in other])
    observed = float((a == b).mean())
    chance = float(sum((a == k).mean() * (b == k).mean() for k in range(len(names))))
    return None if chance >= 1 else (observed - chance) / (1 - chance)


def fleiss(counts: np.ndarray) -> float | None:
    """Fleiss' kappa (Psychol. Bull. 76, 1971) of ``counts`` (N, K): how many people gave clip n the label k.

    The number of people may differ between clips, two at least; chance is then taken over all labels given. None
    where it is not defined.
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


def agreement(said: Opinions) -> Agreement:
    """Everything of `Agreement`, from who said what."""
    names = sorted({label for row in said.values() for label in row.values()})
    counts = np.array([[list(row.values()).count(name) for name in names] for row in said.values()]).reshape(
        len(said), len(names)
    )
    people = sorted({who for row in said.values() for who in row})
    pairs = []
    for one, other in combinations(people, 2):
        both = [(row[one], row[other]) for row in said.values() if one in row and other in row]
        if both:
            a, b = [said for said, _ in both], [said for _, said in both]
            each = {name: cohen([str(x == name) for x in a], [str(x == name) for x in b]) for name in names}
            pairs.append(Pair(one, other, len(both), cohen(a, b), each))
    per_class = {
        name: fleiss(np.stack([counts[:, k], counts.sum(1) - counts[:, k]], 1)) for k, name in enumerate(names)
    }
    differ = sum(len(set(row.values())) > 1 for row in said.values())
    return Agreement(len(said), differ, fleiss(counts) if len(said) else None, per_class, tuple(pairs))
