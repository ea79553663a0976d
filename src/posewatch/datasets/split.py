"""Splits, hold-outs and folds by source video or subject, close to the wanted shares and balanced by class."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.clipset import ClipSet
from posewatch.errors import ConfigError, LabelError

TRAIN, VALIDATION, TEST = 0, 1, 2
FIT = 0.6
"""Share of the clips that must remain to fit on when whole people are held out."""


@dataclass(frozen=True)
class HoldOut:
    """Indices of the clips to fit on and of those held out; ``note`` is a shortcoming of the split, or empty."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    note: str = ""


def people_of(group: str) -> frozenset[str]:
    """The single people of a canonical group."""
    return frozenset(group.split("+"))


def split_by_group(
    labels: NDArray[np.int64],
    groups: Sequence[Any] | NDArray[Any],
    validation: float = 0.2,
    test: float = 0.3,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """Parts (N,): 0 train, 1 validation, 2 test; clips of one group share a part.

    Training and test get every class; validation does where the groups allow it, and else is left empty rather than
    given a single class. Raises LabelError when a class has too few clips or groups.
    """
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
    """Assign the groups, rare classes and large groups first in random variations, each to the part that lacks most."""
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
    # With few groups, validation may hold what training or test need: some draws leave it empty.
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


def hold_out(clips: ClipSet, share: float, seed: int = 0) -> HoldOut:
    """Hold out about ``share`` of the clips: all clips of some people, with every class on both sides.

    People who act in pairs are held out with all their clips as long as ``FIT`` of the clips remain to fit on; their
    partners stay in training. Else whole groups are held out; else single clips; nothing where a class has one clip
    only. The note names the case. Raises ConfigError for a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ConfigError(f"validation {share:g} must be a share of the clips, at least 0 and below 1")
    counts = np.bincount(clips.labels, minlength=len(clips.classes))
    everything = np.arange(len(clips))
    few = [name for name, count in zip(clips.classes, counts, strict=True) if count < 2]
    if few or share == 0:
        why = f"class {few[0]!r} has fewer than 2 clips" if few else "the share is 0"
        return HoldOut(everything, everything[:0], f"No clips are held out for validation: {why}.")
    rng = np.random.default_rng(seed)
    chosen = _whole_people(clips, share, rng)
    if chosen is not None:
        return _held(chosen)
    chosen = _whole_groups(clips, share, seed)
    if chosen is not None:
        note = ""
        if any(len(people_of(group)) > 1 for group in clips.groups):
            note = "Validation shares single people with training: nobody could be held out with all clips."
        elif len(set(clips.groups)) == len(clips) and not clips.certain:
            note = "Whose clips these are is unknown: validation may show people of training."
        return _held(chosen, note)
    chosen = np.zeros(len(clips), bool)
    for label, count in enumerate(counts):
        take = min(max(1, round(share * count)), count - 1)
        chosen[rng.permutation(np.flatnonzero(clips.labels == label))[:take]] = True
    return _held(chosen, "Validation shows people of training: a class has all of its clips from one group.")


def _held(chosen: NDArray[np.bool_], note: str = "") -> HoldOut:
    return HoldOut(np.flatnonzero(~chosen), np.flatnonzero(chosen), note)


def _whole_people(clips: ClipSet, share: float, rng: np.random.Generator) -> NDArray[np.bool_] | None:
    """Mask (N,) of all clips of a few people who act with others; None without such people or a good choice."""
    groups, member = np.unique(clips.groups, return_inverse=True)
    persons = sorted(set().union(*map(people_of, groups)))
    if all(len(people_of(group)) == 1 for group in groups) or len(persons) * len(groups) > 10_000_000:
        return None
    acts = np.array([[p in people_of(group) for group in groups] for p in persons])
    counts = np.zeros((len(groups), len(clips.classes)), int)
    np.add.at(counts, (member, clips.labels), 1)
    total = counts.sum(0)
    found: list[tuple[float, NDArray[np.bool_]]] = []
    for who in _choices(acts, counts.sum(1), share, rng):
        held = np.asarray(acts[who].any(0))
        out = counts[held].sum(0)
        if not out.all() or (out == total).any() or (total - out).sum() < FIT * total.sum():
            continue
        cost = abs(out.sum() / total.sum() - share) + np.abs(out / total - share).mean()
        found.append((float(cost), held))
    if not found:
        return None
    # One at random of the choices about as good as the best, so that seeds differ.
    best = min(cost for cost, _ in found)
    near = [held for cost, held in found if cost <= best + 0.05]
    return near[int(rng.integers(len(near)))][member]


def _choices(
    acts: NDArray[np.bool_], sizes: NDArray[Any], share: float, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Sets of people to hold out: all sets of up to 10 people, else random ones of about the wanted size."""
    people = len(acts)
    if people <= 10:
        sets = itertools.chain.from_iterable(itertools.combinations(range(people), n) for n in range(1, people))
        return [np.array(s) for s in sets]
    out = []
    for _ in range(400):
        order = rng.permutation(people)
        reached = np.cumsum(np.diff(np.logical_or.accumulate(acts[order]).astype(int) @ sizes, prepend=0))
        out.append(order[: 1 + int(np.searchsorted(reached, share * sizes.sum() * rng.uniform(0.6, 1.2)))])
    return out


def _whole_groups(clips: ClipSet, share: float, seed: int) -> NDArray[np.bool_] | None:
    try:
        parts = split_by_group(clips.labels, clips.groups, share, 0.0, seed, clips.classes)
    except LabelError:
        return None
    held = parts == VALIDATION
    return held if _classes_in(clips, held) and _classes_in(clips, ~held) else None


def _classes_in(clips: ClipSet, chosen: NDArray[np.bool_]) -> bool:
    return len(set(clips.labels[chosen].tolist())) == len(clips.classes)


def folds(clips: ClipSet, k: int, seed: int = 0) -> tuple[HoldOut, ...]:
    """k folds, each clip held out in one of them; clips that share a person are in the same fold where possible.

    Groups that share people stay together if that leaves k parts and every class in each fold's training clips; else
    each group does, in fewer folds where there are fewer groups; else clips are dealt, balanced by class. The note
    names the case. Raises ConfigError for fewer than 2 folds or more than clips, LabelError for a class with fewer than
    2 clips.
    """
    if not 2 <= k <= len(clips):
        raise ConfigError(f"{len(clips)} clips cannot be dealt into {k} folds")
    counts = np.bincount(clips.labels, minlength=len(clips.classes))
    for name, count in zip(clips.classes, counts, strict=True):
        if count < 2:
            raise LabelError(f"class {name!r} has fewer than 2 clips: every fold needs some to train on")
    groups = len(set(clips.groups))
    pairs = any(len(people_of(group)) > 1 for group in clips.groups)
    apart = (
        "Folds share single people: each group of people is in one fold." if pairs else f"There are {groups} groups."
    )
    units = (
        (_linked(clips.groups), k, ""),
        (list(clips.groups), min(k, groups), apart),
        ([str(i) for i in range(len(clips))], k, "Folds share people: there are too few groups to keep them together."),
    )
    for unit, parts, note in units:
        names, member = np.unique(unit, return_inverse=True)
        if len(names) < max(2, parts):
            continue
        table = np.zeros((len(names), len(clips.classes)), int)
        np.add.at(table, (member, clips.labels), 1)
        fold = _deal(table, parts, np.random.default_rng(seed))[member]
        if all(_classes_in(clips, fold != f) and (fold == f).any() for f in range(parts)):
            return tuple(_held(fold == f, note) for f in range(parts))
    raise LabelError(f"{k} folds leave a class without training clips: ask for fewer, or label more")


def _linked(groups: Sequence[str]) -> list[str]:
    """For each clip the name of its component; groups that share a person are one component."""
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for group in sorted(set(groups)):
        first, *rest = sorted(people_of(group))
        for other in rest:
            root[find(other)] = find(first)
    return [find(min(people_of(group))) for group in groups]


def _deal(table: NDArray[Any], k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Deal units with class counts (U, K) into k folds of about equal classes, large ones first, best of several."""
    total = table.sum(0)
    share = table / total
    best: tuple[float, NDArray[np.int64]] | None = None
    for _ in range(max(4, min(60, 20_000 // len(table)))):
        fold, load = np.zeros(len(table), np.int64), np.zeros((k, len(total)))
        for unit in np.argsort(-share.sum(1) * rng.uniform(0.5, 1.5, len(table)), kind="stable"):
            lack = (load * (table[unit] > 0)).sum(1) + 0.1 * load.sum(1) + 1e-6 * rng.random(k)
            fold[unit] = int(lack.argmin())
            load[fold[unit]] += share[unit]
        cost = float(np.abs(load - 1 / k).sum())
        if best is None or cost < best[0]:
            best = (cost, fold)
    assert best is not None
    return best[1]
