"""Motion: reads the motion capture of pybullet_data, chains and steers it, and generates standing people.

A pose is one float64 row of 43 values: root position (3, metres, y is up), root rotation (quaternion x y z w), then every
joint of ``JOINTS`` as a quaternion (4 values) or as one angle (radians). The unscaled body is 1.62 m tall, faces +x.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import PosewatchError

Poses = NDArray[np.float64]

RATE = 30.0
"""Poses per second of every track in this package; videos sample tracks at their own rate."""

JOINTS: tuple[tuple[str, int], ...] = (
    ("chest", 4), ("neck", 4), ("right_hip", 4), ("right_knee", 1), ("right_ankle", 4), ("right_shoulder", 4),
    ("right_elbow", 1), ("left_hip", 4), ("left_knee", 1), ("left_ankle", 4), ("left_shoulder", 4), ("left_elbow", 1),
)  # fmt: skip
"""Joints in the order of the motion files, with the number of values of each."""

OFFSETS: dict[str, int] = {}
_at = 7
for _name, _size in JOINTS:
    OFFSETS[_name] = _at
    _at += _size
POSE_SIZE = _at


@dataclass(frozen=True)
class Action:
    """How a motion file is used: ``start``/``stop`` cut it (fractions), ``travel`` scales the distance covered (a run at
    full speed leaves every room), ``turn`` is the highest turning rate of the path (radians per second), ``bend`` how far the
    trunk leans forward (radians)."""

    motion: str
    travel: float = 1.0
    turn: float = 0.0
    start: float = 0.0
    stop: float = 1.0
    bend: float = 0.0


ACTIONS: dict[str, Action] = {
    "walk": Action("walk", turn=1.6),
    "old_walk": Action("walk", travel=0.75, turn=1.0, bend=0.4),
    "crawl": Action("crawl", turn=0.8),
    "run": Action("run", travel=0.55, turn=2.2),
    "jump": Action("jump", travel=0.8, turn=0.9),
    "dance": Action("dance_a", turn=0.5),
    "dance_slow": Action("dance_b", turn=0.5),
    "spin": Action("spin", turn=0.5),
    # the part in which the person rises: lying still belongs to the abnormal class
    "getup": Action("getup_faceup", start=0.42),
    "punch": Action("punch", travel=0.7, turn=0.9),
    "kick": Action("kick", travel=0.7, turn=0.9),
    "spinkick": Action("spinkick", travel=0.8, turn=0.9),
}


def data_folder() -> Path:
    """The data folder of pybullet. Raises PosewatchError naming the extra when pybullet is not installed."""
    spec = importlib.util.find_spec("pybullet_data")
    if spec is None or spec.origin is None:
        raise PosewatchError("the footage maker needs pybullet: pip install 'posewatch[footage]'")
    return Path(spec.origin).parent


@functools.cache
def read_motion(name: str) -> tuple[NDArray[np.float64], Poses]:
    """Times (F,) in seconds and poses (F, 43) of one motion file of pybullet_data, uncut."""
    path = data_folder() / "data" / "motions" / f"humanoid3d_{name}.txt"
    rows = np.array(json.loads(path.read_text())["Frames"], np.float64)
    times = np.concatenate([[0.0], np.cumsum(rows[:-1, 0])])
    poses = rows[:, 1:].copy()
    for at in [3, *(OFFSETS[j] for j, size in JOINTS if size == 4)]:  # files hold w x y z, pybullet wants x y z w
        poses[:, at : at + 4] = np.roll(poses[:, at : at + 4], -1, axis=1)
    return times, poses


def _quaternions(pose: NDArray[np.float64]) -> list[slice]:
    return [slice(3, 7)] + [slice(OFFSETS[j], OFFSETS[j] + 4) for j, size in JOINTS if size == 4]


_QUATS = _quaternions(np.zeros(POSE_SIZE))


def blend(a: Poses, b: Poses, weight: NDArray[np.float64] | float) -> Poses:
    """Poses between ``a`` (weight 0) and ``b`` (weight 1), all (..., 43); quaternions take the shorter arc."""
    w = np.asarray(weight, np.float64)[..., None]
    b = np.array(b, np.float64)
    for q in _QUATS:
        flip = np.sum(a[..., q] * b[..., q], axis=-1, keepdims=True) < 0
        b[..., q] = np.where(flip, -b[..., q], b[..., q])
    out = a * (1 - w) + b * w
    for q in _QUATS:
        out[..., q] /= np.linalg.norm(out[..., q], axis=-1, keepdims=True)
    return out


def sample(times: NDArray[np.float64], poses: Poses, at: NDArray[np.float64]) -> Poses:
    """Poses (N, 43) at the seconds ``at`` (N,), held at both ends."""
    at = np.clip(at, times[0], times[-1])
    right = np.clip(np.searchsorted(times, at), 1, len(times) - 1)
    left = right - 1
    return blend(poses[left], poses[right], (at - times[left]) / (times[right] - times[left]))


def resample(track: Poses, fps: float, frames: int) -> Poses:
    """The poses (frames, 43) at ``fps`` of a track at ``RATE``."""
    return sample(np.arange(len(track)) / RATE, track, np.arange(frames) / fps)


def heading(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Yaw about +y (radians) of the direction that a body with this rotation (..., 4) faces."""
    x, y, z, w = np.moveaxis(quaternion, -1, 0)
    return np.arctan2(-2 * (x * z - y * w), 1 - 2 * (y * y + z * z))


def turned(pose: Poses, yaw: float) -> Poses:
    """The pose turned about the vertical through its own root."""
    out = np.array(pose)
    s, c = np.sin(yaw / 2), np.cos(yaw / 2)
    x, y, z, w = out[..., 3], out[..., 4], out[..., 5], out[..., 6]
    out[..., 3:7] = np.stack([c * x + s * z, c * y + s * w, c * z - s * x, c * w - s * y], axis=-1)
    return out


def rotated(xz: NDArray[np.float64], yaw: float) -> NDArray[np.float64]:
    """A floor vector (..., 2) turned by ``yaw`` about +y."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.stack([c * xz[..., 0] + s * xz[..., 1], -s * xz[..., 0] + c * xz[..., 1]], axis=-1)


def _steer(place: NDArray[np.float64], facing: float, home: NDArray[np.float64], radius: float, turn: float) -> float:
    """The turning rate (radians per second) that leads a person back who strays from ``home``."""
    away = place - home
    far = float(np.hypot(*away)) / radius
    if far < 0.5 or turn == 0:
        return 0.0
    wanted = np.arctan2(away[1], -away[0])
    error = (wanted - facing + np.pi) % (2 * np.pi) - np.pi
    return float(np.clip(2.5 * error, -turn, turn) * min(1.0, (far - 0.5) / 0.4))


def chain(
    plan: list[tuple[str, float]],
    *,
    place: tuple[float, float] = (0.0, 0.0),
    facing: float = 0.0,
    speed: float = 1.0,
    phase: float = 0.0,
    radius: float = 1.2,
    seed: int = 0,
    crossfade_s: float = 0.3,
    target: tuple[float, float] | None = None,
    reach: float = 0.9,
) -> Poses:
    """A track (N, 43) at ``RATE`` of the actions in ``plan``, (name, seconds) one after the other.

    Motion files are repeated from where the last repetition ended, so that people who walk travel; a path that leaves the
    circle of ``radius`` metres about ``place`` bends back. ``phase`` in [0, 1) is where in its file the first action starts.
    ``stand`` and ``wave`` are generated, all others come from ``ACTIONS``. A person with a ``target`` turns to it and stays
    ``reach`` metres away from it.
    """
    goal = None if target is None else (np.array(target, np.float64), reach)
    home = np.array(place, np.float64)
    here, yaw, rows = home.copy(), facing, []
    last: Poses | None = None
    for number, (name, seconds) in enumerate(plan):
        steps = max(1, round(seconds * RATE))
        if name in ("stand", "wave"):
            part = standing(steps, np.random.default_rng([seed, number]), wave=name == "wave")
            part = turned(part, yaw)
            part[:, [0, 2]] += here
        else:
            part = _perform(ACTIONS[name], steps, here, yaw, speed, phase if number == 0 else 0.0, home, radius, goal)
        if last is not None:
            fade = min(len(part), round(crossfade_s * RATE))
            floor = part[:fade, [0, 2]].copy()
            part[:fade] = blend(np.repeat(last[None], fade, 0), part[:fade], (np.arange(fade) + 1) / (fade + 1))
            part[:fade, [0, 2]] = floor
        rows.append(part)
        last = part[-1]
        here, yaw = last[[0, 2]].copy(), float(heading(last[3:7]))
    return np.concatenate(rows)


def _perform(
    action: Action, steps: int, here: NDArray[np.float64], yaw: float, speed: float, phase: float,
    home: NDArray[np.float64], radius: float, goal: tuple[NDArray[np.float64], float] | None,
) -> Poses:  # fmt: skip
    times, poses = read_motion(action.motion)
    begin, end = times[-1] * action.start, times[-1] * action.stop
    clock = begin + phase * (end - begin)
    now = sample(times, poses, np.array([clock]))[0]
    place = here.copy()
    twist = yaw - float(heading(now[3:7]))  # from directions of the file to those of the room
    out = np.empty((steps, POSE_SIZE))
    for i in range(steps):
        pose = turned(now, twist)
        pose[[0, 2]] = place
        out[i] = pose
        clock += speed / RATE
        if clock > end:  # repeat: the next repetition starts at the place and heading where this one ended
            ended = sample(times, poses, np.array([end]))[0]
            again = sample(times, poses, np.array([begin]))[0]
            twist += float(heading(ended[3:7]) - heading(again[3:7]))
            clock, now = begin + (clock - end), again
        then = sample(times, poses, np.array([clock]))[0]
        place = place + rotated(then[[0, 2]] - now[[0, 2]], twist) * action.travel
        now = then
        facing = float(heading(now[3:7])) + twist
        if goal is not None:
            way = goal[0] - place
            far = float(np.hypot(*way)) + 1e-9
            error = (np.arctan2(-way[1], way[0]) - facing + np.pi) % (2 * np.pi) - np.pi
            twist += float(np.clip(2.0 * error, -1.5, 1.5)) / RATE
            if (
                far < goal[1] or action.motion != "walk"
            ):  # a person who strikes moves to arm's length, one who walks only stops
                place = place + way / far * float(np.clip(4.0 * (far - goal[1]), -1.2, 1.2)) / RATE
            continue
        twist += _steer(place, facing, home, radius, action.turn * speed) / RATE
    return _stooped(out, action.bend) if action.bend else out


def _stooped(track: Poses, bend: float) -> Poses:
    """The track with the trunk bent forward by ``bend`` radians, and the head raised by half of it."""
    out = track.copy()
    for name, angle in (("chest", -bend), ("neck", bend / 2)):
        q = out[:, OFFSETS[name] : OFFSETS[name] + 4]
        x, y, z, w = q.T.copy()
        s, c = np.sin(angle / 2), np.cos(angle / 2)
        q[:] = np.stack([c * x + s * y, c * y - s * x, c * z + s * w, c * w - s * z], -1)
    return out


def standing(steps: int, rng: np.random.Generator, *, wave: bool = False) -> Poses:
    """Poses (steps, 43) of a person who stands at the origin, shifts weight and looks around, or waves an arm."""
    t = np.arange(steps) / RATE
    slow = 2 * np.pi * rng.uniform(0.1, 0.3, 4)
    shift = rng.uniform(0, 2 * np.pi, 4)
    out = np.zeros((steps, POSE_SIZE))
    out[:, 6] = 1.0
    for name, size in JOINTS:
        if size == 4:
            out[:, OFFSETS[name] + 3] = 1.0

    def turn(name: str, axis: int, angle: NDArray[np.float64]) -> None:
        out[:, OFFSETS[name] + axis] += np.sin(angle / 2)

    x, y, z = 0, 1, 2
    sway = 0.035 * np.sin(slow[0] * t + shift[0])
    out[:, 1] = 0.875
    out[:, 2] = 0.5 * sway
    spread = rng.uniform(0.04, 0.10)
    for side, sign in (("right", -1.0), ("left", 1.0)):
        turn(f"{side}_hip", x, sign * spread - sway)
        turn(f"{side}_ankle", x, sway - sign * spread)
        turn(f"{side}_shoulder", x, np.full(steps, sign * rng.uniform(0.10, 0.2)))
        turn(f"{side}_shoulder", z, 0.06 * np.sin(slow[1] * t + shift[1]) + rng.uniform(-0.1, 0.2))
        out[:, OFFSETS[f"{side}_elbow"]] = rng.uniform(0.15, 0.5)
    turn("chest", y, 0.12 * np.sin(slow[2] * t + shift[2]))
    turn("neck", y, 0.45 * np.sin(slow[3] * t + shift[3]))
    if wave:
        side, sign = ("right", -1.0) if rng.random() < 0.5 else ("left", 1.0)
        lift = np.clip(np.minimum(t, t[-1] - t) / 0.5, 0, 1)
        turn(f"{side}_shoulder", x, sign * lift * (1.9 + 0.1 * np.sin(6.5 * t)))
        out[:, OFFSETS[f"{side}_elbow"]] += lift * (0.9 + 0.5 * np.sin(6.5 * t))
    for q in _QUATS:
        out[:, q] /= np.linalg.norm(out[:, q], axis=1, keepdims=True)
    return out
