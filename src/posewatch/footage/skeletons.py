"""Labelled skeletons by the thousand without rendering a picture: the people of `make`, seen by random cameras.

A joint is hidden where a limb, of its own person or another one, stands between it and the camera. What a pose
estimator makes of it is drawn from ``joint_errors``.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posewatch.footage import scenario, truth
from posewatch.footage.engine import Figure, world
from posewatch.footage.everyday import REST, STANDUP
from posewatch.footage.figure import draw_look, write_figure
from posewatch.footage.joint_errors import estimated
from posewatch.footage.motion import data_folder
from posewatch.footage.scene import Camera

Floats = NDArray[np.float64]

SCENE_S, CAMERAS = 9.0, 3
"""Length of a scene in seconds, and the cameras that see it: a scene gives several clips of each."""
SIZE = (640, 480)
"""Width and height of the cameras' pictures in pixels."""
KINDS = tuple(dict.fromkeys((*scenario.NORMAL_KINDS, *scenario.ABNORMAL_KINDS, *scenario.AMONG_TWO)))
ACTS = (
    "stand", "walk", "run", "jump", "dance", "spin", "getup", "wave", "punch", "kick", "spinkick", "fall", "lie",
    *scenario.EVERYDAY_KINDS, STANDUP, REST,
)  # fmt: skip
"""The classes of the clips."""
SEEN_S = 0.5
"""How long an abnormal act must be in a clip that is labelled with it."""
MIN_SEEN = 0.3
"""Share of the frames in which somebody must be seen; other clips are drawn anew."""
# (joint, joint, radius in metres): what hides other joints; the trunk runs from the middle of the hips to that of the
# shoulders, which follow the seventeen joints
_TRUNK = (17, 18)
_LIMBS = (
    (17, 18, 0.14), (11, 13, 0.075), (13, 15, 0.055), (12, 14, 0.075), (14, 16, 0.055), (5, 7, 0.05), (7, 9, 0.04),
    (6, 8, 0.05), (8, 10, 0.04), (3, 4, 0.09),
)  # fmt: skip


@dataclass(frozen=True)
class RenderedClip:
    """``keypoints`` float32 (M, T, 17, 3) as an estimator gives them, the ``act`` that labels it, its ``scene``, of
    which there are other clips, and for how many seconds anybody does what (``acts``)."""

    keypoints: NDArray[np.float32]
    act: str
    scene: str
    acts: Mapping[str, float] = field(default_factory=dict)


def make_skeletons(
    count: int,
    *,
    seconds: float = 3.0,
    fps: float = 10.0,
    seed: int = 0,
    kinds: Sequence[str] = KINDS,
    progress: Callable[[], None] | None = None,
) -> list[RenderedClip]:
    """``count`` clips of the length ``seconds``, from scenes whose ``kinds`` (of `scenario.play`) take turns.

    Of the default kinds every second one has something abnormal. ``progress`` is called after each clip. Raises
    PosewatchError without pybullet.
    """
    data_folder()
    made: list[RenderedClip] = []
    index = 0
    with tempfile.TemporaryDirectory(prefix="posewatch-") as folder:
        urdf = write_figure(draw_look(np.random.default_rng(0)), Path(folder), skin=False)
        while len(made) < count:
            for clip in _scene(urdf, kinds[index % len(kinds)], index, seconds, fps, seed):
                if len(made) < count:
                    made.append(clip)
                    (progress or (lambda: None))()
            index += 1
    return made


def _scene(urdf: Path, kind: str, index: int, seconds: float, fps: float, seed: int) -> Iterator[RenderedClip]:
    """The clips of one scene, drawn from (seed, index) alone."""
    rng = np.random.default_rng([seed, index, 17])
    length = max(SCENE_S, seconds)
    frames = round(length * fps)
    looks = [draw_look(rng) for _ in range(scenario.people(kind))]
    roles = scenario.play(kind, length, looks, [urdf] * len(looks), rng)
    points = np.empty((len(looks), frames, 17, 3))
    with world() as client:
        for m, (role, look) in enumerate(zip(roles, looks, strict=True)):
            figure = Figure(client, urdf, look.height)
            for t, pose in enumerate(scenario.frames_of(role, fps, frames)):
                figure.pose(pose)
                points[m, t] = truth.joints(figure)
    intervals = [interval for role in roles for interval in role.intervals]
    step = round(seconds * fps)
    for _ in range(CAMERAS):
        camera = draw_camera(points, rng)
        seen, visible = observe(points, camera)
        skeleton = estimated(seen, visible, camera.size, rng)
        shift = int(rng.integers(0, max(1, frames % step or min(step, frames - step) or 1)))
        for start in range(shift if shift + step <= frames else 0, frames - step + 1, step):
            clip = skeleton[:, start : start + step]
            if (clip[..., 2] > 0).any((0, 2)).mean() >= MIN_SEEN:
                span = start / fps, (start + step) / fps
                yield RenderedClip(clip, label(intervals, *span), f"scene-{index:05d}", lengths(intervals, *span))


def label(intervals: Sequence[scenario.Interval], start: float, stop: float) -> str:
    """The act of a stretch of a scene: the longest abnormal one, else the longest of the first person."""
    spans = {act: s for act, s in lengths(intervals, start, stop).items() if act in scenario.ABNORMAL}
    first = lengths([i for i in intervals if i.person == 0 and i.action not in scenario.ABNORMAL], start, stop)
    if spans and max(spans.values()) >= min(SEEN_S, stop - start):
        return max(spans, key=lambda act: spans[act])
    return max(first, key=lambda act: first[act]) if first else "stand"


def lengths(intervals: Sequence[scenario.Interval], start: float, stop: float) -> dict[str, float]:
    """For how many seconds of a stretch of a scene each act is done."""
    spans: dict[str, float] = defaultdict(float)
    for interval in intervals:
        length = min(stop, interval.stop) - max(start, interval.start)
        if length > 0:
            spans[interval.action.removesuffix("_slow")] += length
    return dict(spans)


def draw_camera(points: Floats, rng: np.random.Generator) -> Camera:
    """A fixed camera about the people at ``points`` (M, T, V, 3): near or far, from the side or from above; somebody may
    leave its view."""
    middle = points.reshape(-1, 3).mean(0)
    yaw, fov = rng.uniform(0, 2 * np.pi), rng.uniform(38, 72)
    tilt = rng.choice([rng.uniform(0.05, 0.35), rng.uniform(0.35, 0.9)])
    distance = rng.uniform(3.0, 10.0)
    aim = middle + rng.normal(0, [0.5, 0.15, 0.5])
    eye = aim + distance * np.array([np.cos(yaw) * np.cos(tilt), np.sin(tilt), np.sin(yaw) * np.cos(tilt)])
    x, y, z = (float(v) for v in eye)
    return Camera((x, max(y, 0.5), z), (float(aim[0]), float(aim[1]), float(aim[2])), float(fov), SIZE)


def observe(points: Floats, camera: Camera) -> tuple[Floats, NDArray[np.bool_]]:
    """Pixels (M, T, 17, 2) of the joints at ``points`` (M, T, 17, 3) in metres, and which the camera sees, (M, T, 17)."""
    projected = camera.project(points)
    inside = (projected[..., :2] >= 0) & (projected[..., :2] < np.array(camera.size))
    return projected[..., :2], inside.all(-1) & (projected[..., 2] > 0.1) & ~_hidden(points, np.array(camera.eye))


def _hidden(points: Floats, eye: Floats) -> NDArray[np.bool_]:
    """(M, T, V): whether a limb stands between the eye and a joint: their distance from its line of sight, by the points
    of both that are nearest to each other (Ericson, Real-Time Collision Detection, 5.1.9)."""
    people, _, joints = points.shape[:3]
    middles = (points[:, :, [11, 5]] + points[:, :, [12, 6]]) / 2
    nodes = np.concatenate([points, middles], 2)
    hidden = np.zeros(points.shape[:3], bool)
    sight = points - eye
    length = (sight**2).sum(-1)
    for who in range(people):
        for a, b, radius in _LIMBS:
            begin = nodes[who, :, a][None, :, None]
            bone = nodes[who, :, b][None, :, None] - begin
            between = eye - begin
            across, along = (sight * bone).sum(-1), (bone**2).sum(-1)
            c, f = (sight * between).sum(-1), (bone * between).sum(-1)
            near = np.clip((across * f - c * along) / np.maximum(length * along - across**2, 1e-9), 0, 1)
            far = np.clip((across * near + f) / np.maximum(along, 1e-9), 0, 1)
            near = np.clip((across * far - c) / np.maximum(length, 1e-9), 0, 1)
            apart = np.linalg.norm(eye + sight * near[..., None] - begin - bone * far[..., None], axis=-1)
            # nothing hides its own ends, nor what lies within it
            blocked = (apart < radius) & ((1 - near) * np.sqrt(length) > radius + 0.06)
            own = [j for j in range(joints) if j in (a, b) or ((a, b) == _TRUNK and j in (5, 6, 11, 12))]
            blocked[who, :, own] = False
            hidden |= blocked
    return hidden
