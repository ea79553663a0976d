"""Everyday acts that are mistaken for falls: sitting and lying down, picking up, tying a shoe, exercise.

There is no motion capture of them, so they are made of key poses. Feet stay where they stand, and the body rests on what
touches the floor, or a bed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from posewatch.footage.motion import JOINTS, OFFSETS, POSE_SIZE, RATE, Poses, blend, heading, rotated, turned

Floats = NDArray[np.float64]
Side = tuple[float, float]
"""Of the left and of the right limb."""

REST = "rest"
"""What somebody does who has lain down on purpose; after a fall it is ``lie``."""
STANDUP = "standup"
CROSSFADE_S = 0.3


@dataclass(frozen=True)
class Key:
    """A pose by the angles of its limbs in the room, in degrees: 0 hangs down (of the trunk: is upright), 90 is forward.

    ``spread`` of the legs and ``open`` of the arms go to the sides, ``roll`` turns about the long axis of the trunk,
    ``yaw`` about the vertical. ``lift`` is the height of the bed in metres. ``feet``: they stay in their place.
    """

    lean: float = 0.0
    bend: float = 0.0
    head: float = 0.0
    thigh: Side = (3.0, 3.0)
    shin: Side = (-3.0, -3.0)
    foot: Side = (0.0, 0.0)
    arm: Side = (-3.0, -3.0)
    forearm: Side = (14.0, 14.0)
    spread: float = 5.0
    open: float = 8.0
    roll: float = 0.0
    yaw: float = 0.0
    lift: float = 0.0
    feet: bool = True


STAND = Key()
HALFWAY = Key(lean=42, bend=6, thigh=(52, 52), shin=(-18, -18), arm=(25, 25), forearm=(55, 55))
CHAIR = Key(lean=-4, thigh=(88, 88), shin=(-2, -2), arm=(18, 18), forearm=(80, 80), spread=8)
SQUAT = Key(lean=38, bend=8, thigh=(98, 98), shin=(-30, -30), arm=(80, 80), forearm=(88, 88), spread=14)
FLOOR = Key(lean=-14, bend=12, thigh=(128, 128), shin=(28, 28), arm=(30, 30), forearm=(70, 70), spread=12, feet=False)
STOOP = Key(lean=82, bend=18, head=-10, thigh=(8, 8), shin=(-10, -10), arm=(10, 25), forearm=(8, 60))
KNEEL = Key(
    lean=48, bend=26, head=8, thigh=(88, -6), shin=(-4, -88), foot=(0, -75), arm=(28, 28), forearm=(22, 22), open=2
)
PLANK = Key(lean=76, head=-20, thigh=(-76, -76), shin=(-76, -76), foot=(-72, -72), arm=(2, 2), forearm=(2, 2), open=4)
CHEST_DOWN = replace(
    PLANK, lean=87, thigh=(-87, -87), shin=(-87, -87), foot=(-80, -80), arm=(-62, -62), forearm=(8, 8), open=18
)
BACK = Key(
    lean=-90, head=6, thigh=(90, 90), shin=(88, 88), foot=(80, 80), arm=(84, 84), forearm=(96, 96), open=12, feet=False
)
CURLED = replace(BACK, thigh=(140, 128), shin=(70, 62), arm=(150, 130), forearm=(230, 200), bend=14)


@dataclass(frozen=True)
class Step:
    """``key`` is reached after ``seconds``, which are spent on ``act``."""

    act: str
    seconds: float
    key: Key


Plan = Callable[[np.random.Generator], list[Step]]


def _sit(rng: np.random.Generator, slow: bool = False) -> list[Step]:
    name, took = ("old_sit", rng.uniform(2.4, 4.5)) if slow else ("sit", rng.uniform(0.7, 1.8))
    lean = 12.0 if slow else 0.0
    plan = [
        Step(name, took * 0.55, replace(HALFWAY, lean=HALFWAY.lean + lean)),
        Step(name, took * 0.45, CHAIR),
        Step(name, rng.uniform(1.0, 4.0), replace(CHAIR, lean=rng.uniform(-12, 15), head=rng.uniform(-10, 25))),
    ]
    if rng.random() < 0.5:
        plan += [Step(STANDUP, took * 0.5, HALFWAY), Step(STANDUP, took * 0.5, STAND)]
    return plan


def _sit_floor(rng: np.random.Generator) -> list[Step]:
    took = rng.uniform(1.2, 2.8)
    legs = rng.choice(3)
    seat = FLOOR
    if legs == 1:
        seat = replace(FLOOR, thigh=(92.0, 92.0), shin=(86.0, 86.0), foot=(80.0, 80.0))
    elif legs == 2:  # cross-legged
        seat = replace(FLOOR, thigh=(98.0, 98.0), shin=(-76.0, -76.0), spread=42.0)
    hand = replace(SQUAT, arm=(20.0, 70.0), forearm=(20.0, 80.0))
    return [Step("sit_floor", took * 0.5, hand), Step("sit_floor", took * 0.5, seat), Step("sit_floor", 30.0, seat)]


def _lie_down(rng: np.random.Generator) -> list[Step]:
    """On a bed or a sofa, quickly or slowly, or on the floor as for gymnastics; on the back or on a side."""
    side = rng.choice([-1.0, 1.0])
    turn = rng.choice([0.0, 80.0 * side, -80.0 * side])
    lying = replace(CURLED if turn else BACK, roll=float(turn))
    if rng.random() < 0.25:
        took = rng.uniform(1.6, 3.0)
        return [
            Step("sit_floor", took * 0.4, SQUAT), Step("sit_floor", took * 0.4, FLOOR), Step("lie_down", took * 0.6, lying),
            Step(REST, 60.0, lying),
        ]  # fmt: skip
    lying = replace(lying, yaw=float(90 * side), lift=float(rng.uniform(0.32, 0.55)))
    took, pause = rng.uniform(0.9, 3.2), rng.choice([0.05, rng.uniform(0.4, 2.5)])
    return [
        Step("sit", took * 0.35, HALFWAY), Step("sit", took * 0.25, CHAIR), Step("sit", pause, CHAIR),
        Step("lie_down", took * 0.6, lying), Step(REST, 60.0, lying),
    ]  # fmt: skip


def _pickup(rng: np.random.Generator) -> list[Step]:
    plan: list[Step] = []
    for _ in range(4):
        down = STOOP if rng.random() < 0.6 else replace(SQUAT, lean=55.0, arm=(20.0, 40.0), forearm=(15.0, 80.0))
        took = rng.uniform(0.6, 1.3)
        plan += [
            Step("pickup", took, down), Step("pickup", rng.uniform(0.1, 0.8), replace(down, lean=down.lean + 4)),
            Step("pickup", took, STAND), Step("pickup", rng.uniform(0.2, 1.5), replace(STAND, forearm=(70.0, 20.0))),
        ]  # fmt: skip
    return plan


def _tie_shoe(rng: np.random.Generator) -> list[Step]:
    took = rng.uniform(0.8, 1.6)
    down = KNEEL if rng.random() < 0.7 else replace(STOOP, arm=(16.0, 16.0), forearm=(14.0, 14.0))
    busy = [
        Step("tie_shoe", 0.4, replace(down, forearm=(down.forearm[0] + a, down.forearm[1] - a)))
        for a in rng.uniform(-12, 12, int(rng.integers(5, 12)))
    ]
    return [Step("tie_shoe", took, down), *busy, Step(STANDUP, took, STAND), Step(STANDUP, 30.0, STAND)]


def _squats(rng: np.random.Generator) -> list[Step]:
    took = rng.uniform(0.6, 1.3)
    up = replace(STAND, arm=(60.0, 60.0), forearm=(75.0, 75.0)) if rng.random() < 0.5 else STAND
    return [Step("squat", took, key) for _ in range(30) for key in (SQUAT, up)]


def _pushups(rng: np.random.Generator) -> list[Step]:
    took = rng.uniform(0.5, 0.9)
    hands = replace(SQUAT, lean=75.0, arm=(20.0, 20.0), forearm=(20.0, 20.0))
    again = [Step("pushup", took, key) for _ in range(40) for key in (CHEST_DOWN, PLANK)]
    return [Step("pushup", rng.uniform(0.7, 1.2), hands), Step("pushup", 0.8, PLANK), *again]


def _slowly(rng: np.random.Generator) -> list[Step]:
    return _sit(rng, slow=True)


PLANS: dict[str, Plan] = {
    "sit": _sit, "old_sit": _slowly, "sit_floor": _sit_floor, "lie_down": _lie_down, "pickup": _pickup,
    "tie_shoe": _tie_shoe, "squat": _squats, "pushup": _pushups,
}  # fmt: skip
"""The acts that ``perform`` knows. Motion capture has ``crawl`` and ``old_walk`` (``motion.ACTIONS``)."""


def perform(
    name: str, before: Poses, seconds: float, rng: np.random.Generator
) -> tuple[Poses, list[tuple[str, float]]]:
    """A track (N, 43) at ``RATE`` of an act that follows on ``before`` (M, 43), and what is done in it, (act, seconds).

    Everybody does it a little otherwise.
    """
    own = {f.name: rng.normal(0, 3.0) for f in fields(Key) if f.name not in ("roll", "yaw", "lift", "feet")}
    plan = [replace(step, key=_varied(step.key, own)) for step in PLANS[name](rng)]
    ends = np.cumsum([step.seconds for step in plan])
    rows = np.array([row(key) for key in (_varied(STAND, own), *(step.key for step in plan))])
    frames = max(1, round(seconds * RATE))
    at = np.minimum((np.arange(frames) + 1) / RATE, ends[-1])
    index = np.minimum(np.searchsorted(ends, at), len(plan) - 1)
    part = (at - (ends[index] - [plan[i].seconds for i in index])) / np.array([plan[i].seconds for i in index])
    track = blend(rows[index], rows[index + 1], part**2 * (3 - 2 * part))
    sway = np.cumsum(rng.normal(0, 0.01, (frames, 2)), 0) * 0.1
    track[:, 3:5] += 0.03 * np.sin(sway + at[:, None] * rng.uniform(0.5, 1.5, 2))
    track[:, 3:7] /= np.linalg.norm(track[:, 3:7], axis=1, keepdims=True)
    _rest(track, np.array([plan[i].key.feet for i in index]))
    track = turned(track, float(heading(before[-1, 3:7]) - heading(rows[0, 3:7])))
    track[:, [0, 2]] = rotated(track[:, [0, 2]], float(heading(before[-1, 3:7]))) + before[-1, [0, 2]]
    fade = min(frames, round(CROSSFADE_S * RATE))
    floor = track[:fade, [0, 2]].copy()
    weight = (np.arange(fade) + 1) / (fade + 1)
    track[:fade] = blend(np.repeat(before[-1:], fade, 0), track[:fade], weight)
    track[:fade, [0, 2]] = floor
    spans: list[tuple[str, float]] = []
    for i in index:
        act = plan[i].act
        if spans and spans[-1][0] == act:
            spans[-1] = (act, spans[-1][1] + 1 / RATE)
        else:
            spans.append((act, 1 / RATE))
    return track, spans


def _varied(key: Key, own: dict[str, float]) -> Key:
    def moved(name: str, value: float | Side) -> float | Side:
        change = own.get(name, 0.0)
        return (value[0] + change, value[1] + change) if isinstance(value, tuple) else value + change

    return replace(key, **{name: moved(name, getattr(key, name)) for name in own})  # type: ignore[arg-type]


def row(key: Key) -> Floats:
    """The pose (43,) of a key; its height is that of what it lies on."""
    out = np.zeros(POSE_SIZE)
    out[1] = key.lift
    out[6] = 1.0
    for name, size in JOINTS:
        if size == 4:
            out[OFFSETS[name] + 3] = 1.0

    def put(at: int, *turns: tuple[int, float]) -> None:
        q = np.array([0.0, 0.0, 0.0, 1.0])
        for axis, degrees in turns:
            half = np.radians(degrees) / 2
            r = np.array([0.0, 0.0, 0.0, np.cos(half)])
            r[axis] = np.sin(half)
            q = _times(q, r)
        out[at : at + 4] = q

    x, y, z = 0, 1, 2
    put(3, (y, key.yaw), (z, -key.lean), (y, key.roll))
    put(OFFSETS["chest"], (z, -key.bend))
    put(OFFSETS["neck"], (z, -key.head))
    for i, (side, sign) in enumerate((("left", 1.0), ("right", -1.0))):
        put(OFFSETS[f"{side}_hip"], (z, key.thigh[i] + key.lean), (x, sign * key.spread))
        out[OFFSETS[f"{side}_knee"]] = np.radians(min(0.0, key.shin[i] - key.thigh[i]))
        put(OFFSETS[f"{side}_ankle"], (z, key.foot[i] - key.shin[i]))
        put(OFFSETS[f"{side}_shoulder"], (z, key.arm[i] + key.lean + key.bend), (x, sign * key.open))
        out[OFFSETS[f"{side}_elbow"]] = np.radians(max(0.0, key.forearm[i] - key.arm[i]))
    return out


# -- the body's own kinematics: (link, its parent, its place in it), in metres of the unscaled body -----------------------
_BONES: dict[str, tuple[str, tuple[float, float, float]]] = {
    "chest": ("root", (0, 0.2362, 0)), "neck": ("chest", (0, 0.2238, 0)),
    **{
        f"{side}_{name}": (parent.format(side), at)
        for side, sign in (("right", 1), ("left", -1))
        for name, parent, at in (
            ("hip", "root", (0, 0, 0.0849 * sign)), ("knee", "{}_hip", (0, -0.4215, 0)),
            ("ankle", "{}_knee", (0, -0.4099, 0)), ("shoulder", "chest", (-0.024, 0.2435, 0.1831 * sign)),
            ("elbow", "{}_shoulder", (0, -0.2748, 0)),
        )
    },
}  # fmt: skip
_TOUCH: list[tuple[str, tuple[float, float, float], float]] = [
    ("root", (0, 0, 0), 0.115), ("chest", (0, 0.1, 0), 0.115), ("neck", (0, 0.17, 0), 0.095),
    *(
        (f"{side}_{name}", at, radius)
        for side in ("right", "left")
        for name, at, radius in (
            ("hip", (0, 0, 0), 0.09), ("knee", (0, 0, 0), 0.055), ("ankle", (-0.06, -0.02, 0), 0.025),
            ("ankle", (0.15, -0.02, 0), 0.025), ("shoulder", (0, 0, 0), 0.06), ("elbow", (0, 0, 0), 0.045),
            ("elbow", (0, -0.36, 0), 0.02),
        )
    ),
]  # fmt: skip
"""Points that rest on the floor: link, place in it, radius."""


def _rest(track: Poses, feet: NDArray[np.bool_]) -> None:
    """Put the body on the floor (its height is that over it, so far) and move it so that ``feet`` stay, in place."""
    origins, turns = {"root": np.zeros((len(track), 3))}, {"root": track[:, 3:7]}
    for link, (parent, at) in _BONES.items():
        origins[link] = origins[parent] + _rotate(turns[parent], np.array(at))
        own = track[:, OFFSETS[link] :]
        if link.endswith(("knee", "elbow")):
            half = own[:, :1] / 2
            own = np.concatenate([half * 0, half * 0, np.sin(half), np.cos(half)], 1)
        turns[link] = _times(turns[parent], own[:, :4])
    lowest = np.min([(origins[k] + _rotate(turns[k], np.array(at)))[:, 1] - r for k, at, r in _TOUCH], axis=0)
    track[:, 1] -= lowest
    stand = ((origins["left_ankle"] + origins["right_ankle"]) / 2)[:, [0, 2]]
    moved = -np.diff(stand, axis=0, prepend=stand[:1]) * feet[:, None]
    track[:, [0, 2]] = np.cumsum(moved, 0)


def _times(a: Floats, b: Floats) -> Floats:
    """The product of quaternions (..., 4), x y z w: first ``b``, then ``a``."""
    u, s, v, t = a[..., :3], a[..., 3:], b[..., :3], b[..., 3:]
    return np.concatenate([s * v + t * u + np.cross(u, v), s * t - (u * v).sum(-1, keepdims=True)], -1)


def _rotate(q: Floats, point: Floats) -> Floats:
    """A point (3,) turned by quaternions (N, 4)."""
    u, s = q[:, :3], q[:, 3:]
    return np.asarray(point + 2 * np.cross(u, np.cross(u, point) + s * point))
