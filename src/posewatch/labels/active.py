"""Active learning: which clips to label next. First those that the model is least certain of and that look different.

A fixed random share of the clips is never ordered by the model. The labels of that share are a random sample of all
clips, so a model can be evaluated on them without bias.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels import similar
from posewatch.labels.db import tables
from posewatch.labels.db.database import chunks
from posewatch.labels.db.projection import update_ranks
from posewatch.labels.entries import hash_fraction
from posewatch.records import Prediction

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

BATCH = 24
"""Clips that are selected together, so as not to look alike: a page."""
POOL = 4
"""Each batch is selected from this many times as many of the most uncertain clips."""


@dataclass(frozen=True)
class Refreshed:
    """The result of a refresh: clips ``scored``, ``ordered`` by the model, and in random order (``random``)."""

    scored: int
    ordered: int
    random: int


def uncertainty(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities (N, K) → their entropy (N,) in [0, 1]: 0 where the model is certain, 1 where all are equal."""
    p = np.clip(np.asarray(probabilities, np.float64), 0, 1)
    return np.asarray(-(p * np.log(np.clip(p, 1e-12, 1))).sum(1) / np.log(p.shape[1]))


def order(
    uncertainties: NDArray[Any], embeddings: NDArray[Any] | None = None, batch: int = BATCH, pool: int = POOL
) -> NDArray[np.int64]:
    """The indices of N clips in the order in which to label them.

    ``uncertainties`` (N,) order them. With ``embeddings`` (N, D) each batch is selected from the ``pool * batch`` most
    uncertain clips that are left so that its clips are far from each other: farthest first, the distance weighted by
    the uncertainty. Equal input gives an equal order.
    """
    uncertainties = np.asarray(uncertainties, np.float64)
    by_uncertainty = np.argsort(-uncertainties, kind="stable")
    if embeddings is None or not len(by_uncertainty):
        return by_uncertainty
    points = np.asarray(embeddings, np.float64)
    points = (points - points.mean(0)) / np.where(points.std(0) > 1e-9, points.std(0), 1)
    # Only the most uncertain are compared, so that the time grows in proportion to the number of clips.
    candidates, next_ = by_uncertainty[: pool * batch], pool * batch
    result: list[int] = []
    while len(candidates):
        near, weights = points[candidates], uncertainties[candidates] + 1e-9
        scores = weights.copy()
        distances = np.full(len(candidates), np.inf)
        selected: list[int] = []
        for _ in range(min(batch, len(candidates))):
            scores[selected] = -1
            selected.append(int(scores.argmax()))
            distances = np.minimum(distances, np.linalg.norm(near - near[selected[-1]], axis=1))
            scores = weights * distances
        result += candidates[selected].tolist()
        more = by_uncertainty[next_ : next_ + len(selected)]
        candidates, next_ = np.concatenate([np.delete(candidates, selected), more]), next_ + len(selected)
    return np.array(result, np.int64)


def refresh(
    store: LabelStore,
    clip_ids: list[str],
    prediction: Prediction,
    model_version: str,
    config: LabelConfig,
) -> Refreshed:
    """Store a model's predictions and embeddings of clips, and order the queue by their uncertainty.

    ``prediction`` of the clips ``clip_ids``, in that order, replaces that of an earlier model; with
    ``config.strange_first`` clips that are like nothing the model knows come before all others. No label event is
    created, so no training takes a prediction for a label. Raises LabelError for clips that are not registered, and
    for a model whose classes are not the experiment's.
    """
    if set(prediction.labels) != set(config.classes):
        raise LabelError(
            f"the model has the classes {', '.join(prediction.labels)}, the experiment {', '.join(config.classes)}: "
            "give the model's experiment with --config"
        )
    known = set(store.video_ids(clip_ids))
    missing = [clip for clip in clip_ids if clip not in known]
    if missing:
        raise LabelError(f"no such clip: {missing[0]} (run `posewatch labels queue` first)")
    uncertain = uncertainty(prediction.probabilities)
    draws = np.array([hash_fraction(clip, "random") for clip in clip_ids])
    is_random = draws < config.random
    random, rest = np.flatnonzero(is_random), np.flatnonzero(~is_random)
    random = random[np.argsort(draws[random], kind="stable")]
    by_gain = np.concatenate([_ordered(part, uncertain, prediction) for part in _parts(rest, prediction, config)])
    ordered = together(by_gain.tolist(), clip_ids, store)
    rows = [
        {
            "clip_id": clip_ids[i],
            "model_version": model_version,
            "probabilities": {
                name: round(float(p), 5) for name, p in zip(prediction.labels, prediction.probabilities[i], strict=True)
            },
            "uncertainty": round(float(uncertain[i]), 6),
            "rank": rank,
            "random": bool(is_random[i]),
        }
        for rank, i in enumerate(interleave(ordered, random.tolist(), config.random))
    ]

    def work(connection: sa.Connection) -> None:
        table = tables.predictions
        for chunk in chunks(known):
            connection.execute(table.delete().where(table.c.clip_id.in_(chunk)))
        if rows:
            connection.execute(table.insert(), rows)
        similar.save(connection, clip_ids, prediction.embedding, model_version)
        update_ranks(connection, known)

    store.database.write(work)
    return Refreshed(len(rows), len(ordered), len(random))


def _parts(rest: NDArray[np.int64], prediction: Prediction, config: LabelConfig) -> list[NDArray[np.int64]]:
    """The clips to order, what the model knows least first: with ``strange_first``, those like nothing it knows."""
    if not config.strange_first or prediction.novelty is None:
        return [rest]
    strange = prediction.novelty[rest] > 1
    return [rest[strange], rest[~strange]]


def _ordered(part: NDArray[np.int64], uncertain: NDArray[Any], prediction: Prediction) -> NDArray[np.int64]:
    return part[order(uncertain[part], None if prediction.embedding is None else prediction.embedding[part])]


def together(ordered: list[int], clip_ids: Sequence[str], store: LabelStore) -> list[int]:
    """``ordered`` with the persons of a moment (same video and start) one after the other, at the place of the first.

    Whoever labels one of them has the others before their eyes, too. Clips of scenes keep their order.
    """
    moments = store.moments(clip_ids[i] for i in ordered)
    groups: dict[Hashable, list[int]] = {}
    for i in ordered:
        groups.setdefault(moments.get(clip_ids[i], i), []).append(i)
    return [i for group in groups.values() for i in group]


def interleave(ordered: Sequence[int], random: Sequence[int], share: float) -> list[int]:
    """One list in which about ``share`` of every stretch comes from ``random``, until one of the two ends."""
    result: list[int] = []
    i = j = 0
    while i < len(ordered) or j < len(random):
        due = (len(result) + 1) * share - j >= 1
        if i == len(ordered) or (due and j < len(random)):
            result.append(random[j])
            j += 1
        else:
            result.append(ordered[i])
            i += 1
    return result
