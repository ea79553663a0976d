"""Who does what, when: draws the story of one video, its people, their tracks and the timed actions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posewatch.footage.figure import Look, draw_look, write_figure
from posewatch.footage.motion import OFFSETS, RATE, Poses, blend, chain, heading, read_motion, sample, standing, turned
from posewatch.footage.ragdoll import fall

NORMAL = ("walk", "dance", "run", "jump", "wave", "getup", "spin")
ABNORMAL = ("fall", "punch", "fall", "kick", "knockdown", "fall", "spinkick")
ABNORMAL_ACTIONS = frozenset({"fall", "punch", "kick", "spinkick"})


@dataclass(frozen=True)
class Span:
    """One person's ``action`` in [start_s, end_s) seconds."""

    start_s: float
    end_s: float
    action: str


@dataclass(frozen=True)
class Person:
    """A figure, its URDF and its track (N, 43) at ``RATE``."""

    look: Look
    urdf: Path
    track: Poses
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Story:
    """One video's people; from ``abnormal_from`` seconds on (None: never) it is abnormal."""

    kind: str
    people: tuple[Person, ...]
    abnormal_from: float | None


def tell(index: int, seconds: float, rng: np.random.Generator, folder: Path) -> Story:
    """The story of video ``index``: even ones are normal, odd ones turn abnormal; the figures are written to ``folder``."""
    look = draw_look(rng)
    urdf = write_figure(look, folder / "person-0")
    if index % 2 == 0:
        kind = NORMAL[index // 2 % len(NORMAL)]
        plan = _normal_plan(kind, seconds, rng)
        people = [Person(look, urdf, _chain(plan, rng), _spans(plan))]
        if rng.random() < 0.45:
            people.append(_bystander(people[0], seconds, rng, folder))
        return Story(kind, tuple(people), None)
    kind = ABNORMAL[index // 2 % len(ABNORMAL)]
    start = round(seconds * rng.uniform(0.26, 0.36) * RATE) / RATE
    if kind == "fall":
        first = _falling(look, urdf, start, seconds, rng)
        people = [first]
        if rng.random() < 0.4:
            people.append(_bystander(first, seconds, rng, folder))
    else:
        people = _fight(kind, look, urdf, start, seconds, rng, folder)
    return Story(kind, tuple(people), start)


def _spans(plan: list[tuple[str, float]]) -> tuple[Span, ...]:
    ends = np.cumsum([s for _, s in plan])
    return tuple(Span(round(float(e - s), 3), round(float(e), 3), a) for (a, s), e in zip(plan, ends, strict=True))


def _normal_plan(kind: str, seconds: float, rng: np.random.Generator) -> list[tuple[str, float]]:
    if kind == "walk":
        return [("walk", seconds)]
    if kind == "run":
        return [("run", seconds)]
    if kind == "getup":
        rise = min(3.0, 0.4 * seconds)
        return [("getup", rise), ("walk", seconds - rise)]
    lead = seconds * rng.uniform(0.2, 0.35)
    before = "walk" if rng.random() < 0.6 else "stand"
    if kind == "dance":
        return [("dance" if rng.random() < 0.5 else "dance_slow", seconds)]
    if kind == "jump":
        return [(before, lead), ("jump", seconds - 2 * lead), ("walk", lead)]
    return [(before, lead), (kind, seconds - lead)]


def _chain(plan: list[tuple[str, float]], rng: np.random.Generator, place: tuple[float, float] = (0, 0), radius: float = 1.2) -> Poses:  # fmt: skip
    # the rise from the floor starts at its start; loops may start anywhere
    phase = 0.0 if plan[0][0] == "getup" else float(rng.uniform(0, 1))
    speed, facing, seed = rng.uniform(0.8, 1.2), rng.uniform(-np.pi, np.pi), int(rng.integers(1 << 30))
    return chain(plan, place=place, facing=float(facing), speed=float(speed), phase=phase, radius=radius, seed=seed)


def _bystander(first: Person, seconds: float, rng: np.random.Generator, folder: Path) -> Person:
    look = draw_look(rng)
    urdf = write_figure(look, folder / "person-1")
    taken = first.track[::5, [0, 2]]
    middle = (taken.min(0) + taken.max(0)) / 2
    walks = rng.random() < 0.4
    plan = [("walk" if walks else "stand", seconds)] if rng.random() < 0.7 else [("stand", 0.4 * seconds), ("wave", 0.6 * seconds)]
    best: tuple[float, Poses] | None = None
    for _ in range(6):  # of a few places the one that is clear of the first person and not far off
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(1.3, 2.2)
        place = (float(middle[0] + away * np.cos(angle)), float(middle[1] + away * np.sin(angle)))
        track = _chain(plan, rng, place, radius=0.7)
        gap = float(np.linalg.norm(track[::5, [0, 2]] - taken, axis=1).min())
        merit = min(gap, 1.0) - 0.1 * away
        if best is None or merit > best[0]:
            best = merit, track
    assert best is not None
    return Person(look, urdf, best[1], _spans(plan))


def _falling(look: Look, urdf: Path, start: float, seconds: float, rng: np.random.Generator) -> Person:
    action = ("walk", "walk", "stand", "run")[rng.integers(4)]
    before = _chain([(action, start)], rng, radius=1.6)
    angle, force = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.8)
    push = (float(force * np.cos(angle)), float(force * np.sin(angle)))
    down = fall(urdf, look.height, before, round(seconds * RATE) - len(before) + 1, push)
    return Person(look, urdf, np.concatenate([before, down]), (Span(0, start, action), Span(start, seconds, "fall")))


def _fight(kind: str, look: Look, urdf: Path, start: float, seconds: float, rng: np.random.Generator, folder: Path) -> list[Person]:  # fmt: skip
    hit = "punch" if kind == "knockdown" else kind
    alone = kind != "knockdown" and rng.random() < 0.2
    plan = [("walk", start), (hit, seconds - start)]
    felled = start + min(2.4, 0.35 * seconds)
    if kind == "knockdown":
        plan = [("walk", start), (hit, felled - start + 0.4), ("stand", seconds - felled - 0.4)]
    attacker = Person(look, urdf, _chain(plan, rng, radius=2.0), _spans(plan))
    if alone:
        return [attacker]
    other = draw_look(rng)
    other_urdf = write_figure(other, folder / "person-1")
    track = _facing(attacker.track, round(start * RATE), rng)
    spans: tuple[Span, ...] = (Span(0, seconds, "stand"),)
    if kind == "knockdown":
        at = round(felled * RATE)
        away = track[at, [0, 2]] - attacker.track[at, [0, 2]]
        away = away / max(float(np.linalg.norm(away)), 1e-6) * rng.uniform(1.8, 2.4)
        down = fall(other_urdf, other.height, track[:at], len(track) - at, (float(away[0]), float(away[1])))
        track = np.concatenate([track[:at], down])
        spans = (Span(0, felled, "stand"), Span(felled, seconds, "fall"))
    return [attacker, Person(other, other_urdf, track, spans)]


def _facing(attacker: Poses, start: int, rng: np.random.Generator) -> Poses:
    """The track of somebody who faces the attacker, stays about an arm's length off and steps back when pressed."""
    places = attacker[:, [0, 2]]
    yaw = heading(attacker[:, 3:7])
    ahead = np.stack([np.cos(yaw), -np.sin(yaw)], axis=1)
    smooth = ahead.copy()
    for i in range(start + 1, len(smooth)):
        smooth[i] = smooth[i - 1] + 0.03 * (ahead[i] - smooth[i - 1])
    at = places[start] + ahead[start] * 1.0
    path: NDArray[np.float64] = np.repeat(at[None], len(places), 0)
    for i in range(start + 1, len(places)):
        wanted = places[i] + smooth[i] / max(float(np.linalg.norm(smooth[i])), 1e-6) * 0.9
        step = wanted - at
        at = at + step * min(1.0, 1.4 / RATE / max(float(np.linalg.norm(step)), 1e-6))
        apart = at - places[i]
        near = max(float(np.linalg.norm(apart)), 1e-6)
        if near < 0.6:
            at = places[i] + apart / near * 0.6
        path[i] = at
    moved = np.concatenate([[0.0], np.linalg.norm(np.diff(path, axis=0), axis=1)])
    times, walk = read_motion("walk")
    steps = sample(times, walk, (-np.cumsum(moved) / 1.24 * times[-1]) % times[-1])
    # the walk's own heading and way are taken out; what stays is the stepping
    steps = np.stack([turned(p, -float(heading(p[3:7]))) for p in steps])
    steps[:, [0, 2]] = 0
    pace = np.convolve(moved * RATE, np.ones(9) / 9, "same")
    out = blend(standing(len(places), rng), steps, np.clip(pace / 0.5, 0, 1))
    guard = np.clip((np.arange(len(places)) - start + 8) / 10, 0, 1)
    for side in ("right", "left"):
        out[:, OFFSETS[f"{side}_elbow"]] += guard * (1.7 - out[:, OFFSETS[f"{side}_elbow"]])
        out[:, OFFSETS[f"{side}_shoulder"] + 2] += guard * 0.25
        quat = slice(OFFSETS[f"{side}_shoulder"], OFFSETS[f"{side}_shoulder"] + 4)
        out[:, quat] /= np.linalg.norm(out[:, quat], axis=1, keepdims=True)
    look_at = places - path
    out = np.stack([turned(p, float(np.arctan2(-d[1], d[0]))) for p, d in zip(out, look_at, strict=True)])
    out[:, [0, 2]] = path
    return out
