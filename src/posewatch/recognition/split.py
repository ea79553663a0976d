"""Splits by source video or subject, as close to the wanted shares and class balance as the groups allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import ConfigError, LabelError

TRAIN, VALIDATION, TEST = 0, 1, 2


def split_by_group(
    labels: NDArray[np.int64],
    groups: Sequence[Any] | NDArray[Any],
    validation: float = 0.2,
    test: float = 0.3,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """Parts (N,): 0 train, 1 validation, 2 test; clips of one group share a part.

    Training and test get every class whenever the groups allow it; validation gives way first, and is left empty rather
    than given a single class. Raises LabelError when a class has too few clips or groups, ConfigError for bad shares.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise ConfigError(f"validation {validation} and test {test} must leave a share for training")
    labels, groups = np.asarray(labels), np.asarray(groups)
    names = list(classes) if classes is not None else [str(k) for k in range(int(labels.max(initial=0)) + 1)]
    unique, member = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(unique), len(names)), int)
    np.add.at(counts, (member, labels), 1)
    sides = 1 + (test > 0)
    for k, name in enumerate(names):
        clips, sources = int(counts[:, k].sum()), int((counts[:, k] > 0).sum())
        if clips < 2:
            have = "no clip" if clips == 0 else "1 clip"
            raise LabelError(f"class {name!r} has {have}; label at least 2, from different videos")
        if sources < sides:
            raise LabelError(
                f"all {clips} clips of class {name!r} come from one video ({unique[counts[:, k].argmax()]}); "
                "label clips of another, so that the test is on videos that training did not see"
            )
    shares = np.array([1 - validation - test, validation, test])
    want = shares[:, None] * counts.sum(0)
    rng = np.random.default_rng(seed)
    best: tuple[float, NDArray[np.int64]] | None = None
    for _ in range(max(8, 400 // max(1, len(unique) // 20))):
        parts = _greedy(counts, want, shares, rng)
        cost = _cost(parts, counts, want, shares)
        if best is None or cost < best[0] - 1e-9:
            best = (cost, parts)
    if best is None or best[0] >= 1e6:
        raise LabelError(
            "no split leaves every class in training and in test: a video would have to be on both sides "
            "(label clips of more videos)"
        )
    return best[1][member]


def _greedy(counts: NDArray[Any], want: NDArray[Any], shares: NDArray[Any], rng: Any) -> NDArray[np.int64]:
    """Give the groups away, rare classes and large groups first with some luck, each to the part that lacks most."""
    weight = (counts / counts.sum(0)).sum(1) * rng.uniform(0.3, 1.7, len(counts))
    parts = np.zeros(len(counts), np.int64)
    have = np.zeros_like(want)
    open_parts = np.flatnonzero(shares > 0)
    scale = np.maximum(want, 1e-9)
    for g in np.argsort(-weight, kind="stable"):
        lack = ((want - have) / scale * (counts[g] > 0)).max(1) + 1e-3 * rng.random(3)
        part = open_parts[np.argmax(lack[open_parts])]
        parts[g] = part
        have[part] += counts[g]
    # Where groups are few, validation may hold what training or test need: some draws go without it.
    if shares[VALIDATION] > 0 and rng.random() < 0.3:
        parts[parts == VALIDATION] = rng.choice([TRAIN, TEST] if shares[TEST] > 0 else [TRAIN])
    return parts


def _cost(parts: NDArray[np.int64], counts: NDArray[Any], want: NDArray[Any], shares: NDArray[Any]) -> float:
    have = np.stack([counts[parts == p].sum(0) for p in range(3)])
    missing = (have == 0).any(1)
    cost = float((np.abs(have - want) / np.maximum(counts.sum(0), 1)).sum())
    if missing[TRAIN] or (shares[TEST] > 0 and missing[TEST]):
        cost += 1e6
    if shares[VALIDATION] > 0 and missing[VALIDATION]:
        cost += 100 + (10 if have[VALIDATION].any() else 0)
    return cost
