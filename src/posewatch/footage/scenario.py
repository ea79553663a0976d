"""The plot of a video: its people, and what each does when. Everything is drawn from one generator per video."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from posewatch.errors import ConfigError, did_you_mean
from posewatch.footage.engine import fall
from posewatch.footage.everyday import PLANS, perform
from posewatch.footage.figure import Look
from posewatch.footage.motion import RATE, Poses, chain, resample

ABNORMAL = frozenset({"punch", "kick", "spinkick", "fall", "lie"})
"""Fine action names that count as abnormal; all others are normal."""

NORMAL_KINDS = (
    "walk", "walk+stand", "dance", "run", "walk+walk", "jump", "getup", "dance+stand", "wander", "walk+wave",
    "spin", "jump+stand",
)  # fmt: skip
ABNORMAL_KINDS = (
    "punch>stand", "walk>fall", "kick", "punch", "stand>fall+stand", "spinkick", "kick>stand", "run>fall",
    "punch>fall", "spinkick>stand",
)  # fmt: skip
AMONG = "&"
"""Before the number of bystanders who walk about while somebody else acts: ``walk>fall&2``."""
AMONG_TWO = tuple(
    f"{kind}{AMONG}2" for kind in ("walk", "walk>fall", "walk", "punch", "walk", "run>fall", "walk", "kick")
)
"""Scenes in which one of three falls or harms, each after one in which all three walk."""
EVERYDAY_KINDS = (*PLANS, "old_walk", "crawl")
"""Acts that are mistaken for falls: the old ones are slow movements of old people."""
FALL_KINDS = ("walk>fall", "run>fall", "stand>fall+stand", "sit>fall", "old_walk>fall", "walk>fall&2")
"""Falls from standing, walking, running and sitting."""
GROUPS = {
    "ordinary": NORMAL_KINDS, "harm": ABNORMAL_KINDS, "crowd": AMONG_TWO, "everyday": EVERYDAY_KINDS, "falls": FALL_KINDS,
}  # fmt: skip
"""Names of kinds that users may ask for together."""
FALL_S = 1.5
"""Duration of a fall; after it the person lies."""


@dataclass(frozen=True)
class Interval:
    """``person`` does ``action`` from ``start`` to ``stop`` (seconds)."""

    person: int
    action: str
    start: float
    stop: float


@dataclass(frozen=True)
class Role:
    """One person: a track of poses at ``RATE`` and its actions."""

    track: Poses
    intervals: list[Interval] = field(default_factory=list)


def kinds_of(names: Iterable[str]) -> tuple[str, ...]:
    """The kinds that names of groups and of kinds stand for, in order. Raises ConfigError for another name."""
    known = {kind for kinds in GROUPS.values() for kind in kinds}
    out: list[str] = []
    for name in names:
        if name not in GROUPS and name not in known:
            raise ConfigError(f"no kind of scene is named {name!r}: {did_you_mean(name, [*GROUPS, *sorted(known)])}")
        out += GROUPS.get(name, (name,))
    return tuple(out)


def kind_of(seed: int, index: int) -> str:
    """The kind of video number ``index``: even ones are normal, odd ones abnormal; kinds take turns."""
    kinds = ABNORMAL_KINDS if index % 2 else NORMAL_KINDS
    return kinds[(index // 2 + seed) % len(kinds)]


def labels(intervals: list[Interval], seconds: float) -> list[tuple[float, float, str]]:
    """The video as (start, stop, normal|abnormal), end to end; abnormal as soon as one person is."""
    cuts = sorted({0.0, seconds, *(i.start for i in intervals), *(i.stop for i in intervals)})
    rows: list[tuple[float, float, str]] = []
    for start, stop in zip(cuts, cuts[1:], strict=False):
        bad = any(i.action in ABNORMAL and i.start < stop and i.stop > start for i in intervals)
        label = "abnormal" if bad else "normal"
        if rows and rows[-1][2] == label:
            rows[-1] = (rows[-1][0], stop, label)
        else:
            rows.append((start, stop, label))
    return rows


def _spans(person: int, plan: list[tuple[str, float]]) -> list[Interval]:
    out, at = [], 0.0
    for action, seconds in plan:
        out.append(Interval(person, action, round(at, 2), round(at + seconds, 2)))
        at += seconds
    return out


def _finish(
    person: int, plan: list[tuple[str, float]], seconds: float, track: Poses, urdf: Path, look: Look,
    rng: np.random.Generator,
) -> Role:  # fmt: skip
    """The person falls where ``track`` ends, and lies until the end of the video."""
    begun = sum(s for _, s in plan)
    rest = max(0.2, seconds - begun)
    down = fall(urdf, look.height, track, rest, rng)
    spans = [("fall", min(FALL_S, rest))] + ([("lie", rest - FALL_S)] if rest > FALL_S else [])
    return Role(np.concatenate([track, down]), _spans(person, [*plan, *spans]))


def play(kind: str, seconds: float, looks: list[Look], urdfs: list[Path], rng: np.random.Generator) -> list[Role]:
    """The roles of a video of this kind, ``people(kind)`` of them, one per look."""
    kind, _, others = kind.partition(AMONG)
    if others:
        acting = len(looks) - int(others)
        roles = play(kind, seconds, looks[:acting], urdfs[:acting], rng)
        return [*roles, *(_bystander(acting + i, int(others), seconds, rng) for i in range(int(others)))]
    speed, phase, facing = rng.uniform(0.8, 1.2), rng.random(), rng.uniform(0, 2 * np.pi)
    seeds = [int(s) for s in rng.integers(0, 2**31, 4)]
    change = round(seconds * rng.uniform(0.3, 0.42), 1)
    first, _, second = kind.partition("+")
    if ">" not in first and kind not in (*ABNORMAL_KINDS, *EVERYDAY_KINDS):
        return _normal(first, second, seconds, speed, phase, facing, seeds, rng)
    before, _, act = first.partition(">")
    if before in EVERYDAY_KINDS:
        return [_everyday(before, bool(act), seconds, facing, phase, seeds, looks[0], urdfs[0], rng)]
    if act == "fall" and before in ("walk", "run", "stand"):
        plan = [(before, change)]
        track = chain(plan, facing=facing, speed=speed, phase=phase, radius=0.7, seed=seeds[0])
        roles = [_finish(0, plan, seconds, track, urdfs[0], looks[0], rng)]
        if second:
            place = _beside(facing, 1.35, rng)
            plan = [(second, seconds)]
            roles.append(Role(chain(plan, place=place, facing=_towards(place), seed=seeds[1]), _spans(1, plan)))
        return roles
    if not act:  # a punch or kick without an opponent
        plan = [("walk" if rng.random() < 0.7 else "stand", change), (before, seconds - change)]
        track = chain(plan, facing=facing, speed=speed, phase=phase, radius=0.6, seed=seeds[0])
        return [Role(track, _spans(0, plan))]
    return _attack(before, act, seconds, change, speed, facing, seeds, looks, urdfs, rng)


def _normal(
    first: str, second: str, seconds: float, speed: float, phase: float, facing: float, seeds: list[int],
    rng: np.random.Generator,
) -> list[Role]:  # fmt: skip
    if first == "wander":
        cut = round(seconds * 0.35, 1)
        plan = [("walk", cut), ("stand", cut), ("walk", seconds - 2 * cut)]
    elif first == "getup":
        rise = min(round(2.1 / speed, 1), seconds * 0.6)
        plan, phase = [("getup", rise), ("walk", seconds - rise)], 0.0
    elif first == "dance":
        cut = round(seconds / 2, 1)
        plan = [("dance", cut), ("dance_slow", seconds - cut)]
    else:
        plan = [(first, seconds)]
    radius = 0.75 if first in ("walk", "run", "wander") else 0.5
    place = (0.0, 0.0)
    if second:
        place = _beside(facing, 0.75, rng)
        radius = 0.45
    roles = [Role(chain(plan, place=place, facing=facing, speed=speed, phase=phase, radius=radius, seed=seeds[0]))]
    roles = [Role(roles[0].track, _spans(0, plan))]
    if second:
        other = (-place[0], -place[1])
        plan = [(second, seconds)]
        turn = facing + np.pi if second == "walk" else _towards(other) + rng.uniform(-0.6, 0.6)
        track = chain(
            plan,
            place=other,
            facing=float(turn),
            speed=rng.uniform(0.8, 1.2),
            phase=rng.random(),
            radius=radius,
            seed=seeds[1],
        )
        roles.append(Role(track, _spans(1, plan)))
    return roles


def _everyday(
    name: str, falls: bool, seconds: float, facing: float, phase: float, seeds: list[int], look: Look, urdf: Path,
    rng: np.random.Generator,
) -> Role:  # fmt: skip
    """Somebody who does one of ``EVERYDAY_KINDS``, after a few steps or from standing, and may fall in the end."""
    end = round(seconds * rng.uniform(0.45, 0.65), 1) if falls else seconds
    slow = float(rng.uniform(0.45, 0.7))
    walk = "old_walk" if name.startswith("old") else "walk"
    if name not in PLANS:
        plan = [(name, end)]
        pace = slow if name == walk else float(rng.uniform(0.7, 1.1))
        track = chain(plan, facing=facing, speed=pace, phase=phase, radius=0.75, seed=seeds[0])
    else:
        wait = min(float(rng.uniform(0.4, 2.5)), 0.4 * end)
        plan = [("stand", wait)] if rng.random() < 0.5 else [(walk, wait), ("stand", 0.4)]
        before = chain(plan, facing=facing, speed=slow if walk == "old_walk" else 1.0, phase=phase, seed=seeds[0])
        part, done = perform(name, before, end - len(before) / RATE, np.random.default_rng(seeds[1]))
        track, plan = np.concatenate([before, part]), [*plan, *done]
    return _finish(0, plan, seconds, track, urdf, look, rng) if falls else Role(track, _spans(0, plan))


def _attack(
    blow: str, then: str, seconds: float, change: float, speed: float, facing: float, seeds: list[int],
    looks: list[Look], urdfs: list[Path], rng: np.random.Generator,
) -> list[Role]:  # fmt: skip
    """One person walks up to another and hits; the victim stands or falls."""
    walk = min(1.6, change - 0.4)
    reach = 0.85 if blow == "punch" else 1.05
    gap = reach + 0.95 * speed * walk
    ahead = np.array([np.cos(facing), -np.sin(facing)])
    start = -ahead * gap
    plan = [("stand", round(change - walk, 2)), ("walk", walk), (blow, seconds - change)]
    target = (0.0, 0.0)
    track = chain(
        plan, place=(float(start[0]), float(start[1])), facing=facing, speed=speed, radius=9.0, seed=seeds[0],
        target=target, reach=reach,
    )  # fmt: skip
    roles = [Role(track, _spans(0, plan))]
    if then == "fall":
        wait = [("stand", min(seconds - 0.5, change + rng.uniform(0.9, 1.6)))]
        before = chain(wait, place=target, facing=facing + np.pi, seed=seeds[1])
        roles.append(_finish(1, wait, seconds, before, urdfs[1], looks[1], rng))
    else:
        wait = [("stand", seconds)]
        roles.append(Role(chain(wait, place=target, facing=facing + np.pi, seed=seeds[1]), _spans(1, wait)))
    return roles


def _bystander(person: int, count: int, seconds: float, rng: np.random.Generator) -> Role:
    """Somebody who walks up and down at some distance from the middle; in the camera's view they may cross others."""
    angle = 2 * np.pi * (person + rng.uniform(-0.2, 0.2)) / (count + 1)
    far = rng.uniform(1.4, 1.9)
    place = (float(far * np.cos(angle)), float(far * np.sin(angle)))
    plan = [("walk", seconds)]
    track = chain(
        plan, place=place, facing=float(rng.uniform(0, 2 * np.pi)), speed=rng.uniform(0.8, 1.2), phase=rng.random(),
        radius=0.7, seed=int(rng.integers(0, 2**31)),
    )  # fmt: skip
    return Role(track, _spans(person, plan))


def people(kind: str) -> int:
    """Number of persons in a video of this kind."""
    kind, _, others = kind.partition(AMONG)
    if others:
        return people(kind) + int(others)
    if "+" in kind:
        return 2
    before, _, act = kind.partition(">")
    return 2 if act and before in ABNORMAL else 1


def frames_of(role: Role, fps: float, frames: int) -> Poses:
    """The poses (frames, 43) at the camera's rate."""
    return resample(role.track, fps, frames)


def _beside(facing: float, distance: float, rng: np.random.Generator) -> tuple[float, float]:
    """A place to the side of the walking direction, so that people do not walk through each other."""
    side = facing + np.pi / 2 * (1 if rng.random() < 0.5 else -1)
    return (float(distance * np.cos(side)), float(-distance * np.sin(side)))


def _towards(place: tuple[float, float]) -> float:
    """The heading from ``place`` to the middle of the scene."""
    return float(np.arctan2(place[1], -place[0]))
