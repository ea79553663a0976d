"""Which clip to label next: where the model is least sure, and not twice what looks alike.

A fixed random share of the clips is never ordered by the model. What is labelled there is a random sample of all
clips, so that a model can be judged on it without bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.db import tables
from posewatch.labels.db.projection import chunks, place
from posewatch.labels.entries import draw
from posewatch.records import Prediction

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

Measure = Literal["entropy", "margin"]
BATCH = 24
"""Clips that are chosen together, so as not to look alike: a page."""
POOL = 4
"""Out of how many times as many of the least sure they are chosen."""


@dataclass(frozen=True)
class Refreshed:
    """What a refresh of the queue did: clips ``scored``, ``ordered`` by the model, and left to chance (``random``)."""

    scored: int
    ordered: int
    random: int


def uncertainty(probabilities: NDArray[Any], measure: Measure = "entropy") -> NDArray[np.float64]:
    """Probabilities (N, K) → (N,) in [0, 1]: 0 where the model is sure, 1 where all classes are equally likely.

    ``entropy`` of all classes, or ``margin`` between the two likeliest. Raises LabelError for another measure.
    """
    p = np.clip(np.asarray(probabilities, np.float64), 0, 1)
    if measure == "entropy":
        return np.asarray(-(p * np.log(np.clip(p, 1e-12, 1))).sum(1) / np.log(p.shape[1]))
    if measure == "margin":
        best = np.sort(p, 1)
        return np.asarray(1 - (best[:, -1] - best[:, -2]))
    raise LabelError(f"unknown measure of uncertainty {measure!r} (known: entropy, margin)")


def order(
    uncertain: NDArray[Any],
    embeddings: NDArray[Any] | None = None,
    seen: NDArray[Any] | None = None,
    batch: int = BATCH,
    pool: int = POOL,
) -> NDArray[np.int64]:
    """The indices of N clips in the order in which to label them.

    ``uncertain`` (N,) orders them; with ``embeddings`` (N, D) each batch is chosen from the ``pool * batch`` least
    sure that are left so that its clips lie far from each other and from those labelled before (``seen``, (S, D)):
    farthest first, the distance weighted by the uncertainty. Equal input gives an equal order.
    """
    by_doubt = np.argsort(-np.asarray(uncertain, np.float64), kind="stable")
    if embeddings is None or not len(by_doubt):
        return by_doubt
    points = np.asarray(embeddings, np.float64)
    middle, scale = points.mean(0), np.where(points.std(0) > 1e-9, points.std(0), 1)
    points = (points - middle) / scale
    known = (np.asarray(seen, np.float64) - middle) / scale if seen is not None and len(seen) else None
    # Only the least sure are looked at, so that millions of clips take time in proportion.
    near, next_ = by_doubt[: pool * batch], pool * batch
    out: list[int] = []
    while len(near):
        near_points = points[near]
        distance = np.full(len(near), np.inf)
        if known is not None:
            distance = _nearest(near_points, known)
        taken: list[int] = []
        for _ in range(min(batch, len(near))):
            weight = uncertain[near] + 1e-9
            score = weight if np.isinf(distance).all() else weight * distance
            score = np.asarray(score, np.float64).copy()
            score[taken] = -1
            best = int(score.argmax())
            taken.append(best)
            distance = np.minimum(distance, np.linalg.norm(near_points - near_points[best], axis=1))
        out += [int(near[i]) for i in taken]
        more = by_doubt[next_ : next_ + len(taken)]
        near, next_ = np.concatenate([np.delete(near, taken), more]), next_ + len(taken)
    return np.array(out, np.int64)


def _nearest(points: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    squares = (points**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * points @ others.T
    return np.sqrt(np.maximum(squares, 0)).min(1)


def refresh(
    store: LabelStore,
    clip_ids: list[str],
    prediction: Prediction,
    model_version: str,
    config: LabelConfig | None = None,
    measure: Measure = "entropy",
) -> Refreshed:
    """Show what a model says of clips, and order the queue by it.

    ``prediction`` of the clips ``clip_ids``, in that order. What an earlier model said of them is replaced; no label
    event is made, so no training ever takes a model's opinion for a label. Raises LabelError for clips that are not
    registered, and for a model of other classes than the experiment's.
    """
    config = config or LabelConfig()
    if set(prediction.labels) != set(config.classes):
        raise LabelError(
            f"the model knows the classes {', '.join(prediction.labels)}, the experiment {', '.join(config.classes)}: "
            "give the model's experiment with --config"
        )
    known = set(store.video_ids(clip_ids))
    missing = [clip for clip in clip_ids if clip not in known]
    if missing:
        raise LabelError(f"no such clip: {missing[0]} (run `posewatch labels queue` first)")
    doubt = uncertainty(prediction.probabilities, measure)
    chance = [i for i, clip in enumerate(clip_ids) if draw(clip, "random") < config.random]
    chance.sort(key=lambda i: draw(clip_ids[i], "random"))
    lane = np.array([i for i in range(len(clip_ids)) if draw(clip_ids[i], "random") >= config.random], np.int64)
    embeddings = None if prediction.embedding is None else prediction.embedding[lane]
    ranked = [int(lane[i]) for i in order(doubt[lane], embeddings)]
    merged = interleave(ranked, chance, config.random)
    rows = [
        {
            "clip_id": clip_ids[i],
            "model_version": model_version,
            "probabilities": {
                name: round(float(p), 5) for name, p in zip(prediction.labels, prediction.probabilities[i], strict=True)
            },
            "uncertainty": round(float(doubt[i]), 6),
            "rank": rank,
            "random": draw(clip_ids[i], "random") < config.random,
        }
        for rank, i in enumerate(merged)
    ]

    def work(connection: sa.Connection) -> None:
        table = tables.predictions
        for part in chunks(sorted(known)):
            connection.execute(table.delete().where(table.c.clip_id.in_(part)))
        if rows:
            connection.execute(table.insert(), rows)
        place(connection, known)

    store.database.write(work)
    return Refreshed(len(rows), len(ranked), len(chance))


def interleave(ranked: list[int], chance: list[int], share: float) -> list[int]:
    """One list in which about ``share`` of every stretch comes from ``chance``, until either runs out."""
    out: list[int] = []
    taken = used = 0
    while taken < len(ranked) or used < len(chance):
        due = (len(out) + 1) * share - used >= 1
        if taken == len(ranked) or (due and used < len(chance)):
            out.append(chance[used])
            used += 1
        else:
            out.append(ranked[taken])
            taken += 1
    return out
