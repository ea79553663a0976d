"""What goes wrong between a camera and a recogniser: joints, body parts, frames or a person missing, joints misplaced.

Each disturbance takes a clip (M, T, V, 3) and gives another; what is missing is x = y = score = 0.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.layouts import Layout

Clip = NDArray[np.float32]

_WORDS = {
    "head": "head nose eye ear face mouth jaw chin forehead",
    "torso": "shoulder hip spine neck torso pelvis chest thorax root collar clavicle belly abdomen waist",
    "arm": "arm elbow wrist hand thumb finger tip palm forearm",
    "leg": "leg knee ankle foot toe heel thigh shin",
}
_PART_OF = {word: part for part, words in _WORDS.items() for word in words.split()}
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}


def body_parts(layout: Layout) -> dict[str, tuple[int, ...]]:
    """Name → joints of each body part; every observed joint is in one at the most.

    head, left_arm, right_arm, left_leg, right_leg and torso from the words in the joints' names. Where names say
    nothing of limbs, the branches of the layout's graph (named after the joint at their end) and ``core``, the rest.
    """
    v = layout.observed
    parts: dict[str, list[int]] = {}
    for joint, name in enumerate(layout.joints[:v]):
        words = [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
        side = next((_SIDES[w] for w in words if w in _SIDES), "")
        # The first word that says a part: a hand's tip is of the arm whatever else a tip may be.
        part = next((_PART_OF[w.rstrip("s")] for w in words if w.rstrip("s") in _PART_OF), "")
        if part in ("arm", "leg"):
            part = f"{side}_{part}" if side else ""
        if part:
            parts.setdefault(part, []).append(joint)
    limbs = [p for p in parts if p.endswith(("_arm", "_leg"))]
    if limbs:
        order = ("head", "left_arm", "right_arm", "torso", "left_leg", "right_leg")
        return {p: tuple(parts[p]) for p in order if p in parts}
    return _branches(layout)


def _branches(layout: Layout) -> dict[str, tuple[int, ...]]:
    """The chains at whose end the body ends, and the rest."""
    v = layout.observed
    near: list[set[int]] = [set() for _ in range(v)]
    for a, b in layout.edges:
        if a < v and b < v:
            near[a].add(b)
            near[b].add(a)
    parts: dict[str, tuple[int, ...]] = {}
    taken: set[int] = set()
    for end in range(v):
        if len(near[end]) != 1 or end in taken:
            continue
        chain, joint = [end], end
        # Up to the joint where several meet, which belongs to none of them.
        while (ahead := near[joint] - set(chain)) and len(near[next(iter(ahead))]) == 2:
            joint = next(iter(ahead))
            chain.append(joint)
        if layout.centre in chain:
            chain = chain[: chain.index(layout.centre)]
        if chain:
            parts[layout.joints[end]] = tuple(sorted(chain))
            taken.update(chain)
    rest = tuple(j for j in range(v) if j not in taken)
    return {**parts, "core": rest} if rest else parts


def drop_joints(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    """Each joint of each frame goes missing with probability ``share``, independently."""
    return _without(clip, rng.random(clip.shape[:3]) < share)


def drop_tracks(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    """Each joint of each person goes missing for the whole clip with probability ``share``: it is occluded."""
    m, _, v, _ = clip.shape
    return _without(clip, (rng.random((m, 1, v)) < share) | np.zeros(clip.shape[:3], bool))


def drop_frames(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    """In a ``share`` of the frames, rounded down, nobody is found; at least one frame is left."""
    t = clip.shape[1]
    gone = np.zeros(clip.shape[:3], bool)
    gone[:, rng.permutation(t)[: min(int(share * t + 1e-9), t - 1)]] = True
    return _without(clip, gone)


def hide(clip: Clip, joints: tuple[int, ...]) -> Clip:
    """The given joints of every person are missing throughout."""
    gone = np.zeros(clip.shape[:3], bool)
    gone[:, :, list(joints)] = True
    return _without(clip, gone)


def jitter(clip: Clip, level: float, rng: np.random.Generator) -> Clip:
    """Normal noise on every joint seen, its standard deviation (in x and in y) being ``level`` body sizes."""
    noise = rng.standard_normal((*clip.shape[:3], 2)) * level * body_size(clip)
    out = clip.copy()
    out[..., :2] += (noise * (clip[..., 2:] > 0)).astype(np.float32)
    return out


def body_size(clip: Clip) -> float:
    """Root mean square distance, in pixels, of the joints seen from the middle of their person in their frame."""
    seen = (clip[..., 2:] > 0).astype(np.float64)
    middle = (clip[..., :2] * seen).sum(2, keepdims=True) / np.maximum(seen.sum(2, keepdims=True), 1)
    return float(np.sqrt((((clip[..., :2] - middle) ** 2) * seen).sum() / max(seen.sum(), 1)))


def present(clip: Clip) -> NDArray[np.int64]:
    """The persons of whom any joint is seen."""
    return np.flatnonzero((clip[..., 2] > 0).any((1, 2)))


def by_movement(clip: Clip) -> NDArray[np.int64]:
    """The persons present, from the one that moves most to the one that moves least (mean pixels per frame)."""
    seen = clip[..., 2] > 0
    both = seen[:, 1:] & seen[:, :-1]
    step = np.linalg.norm(np.diff(clip[..., :2].astype(np.float64), axis=1), axis=-1)
    speed = (step * both).sum((1, 2)) / np.maximum(both.sum((1, 2)), 1)
    who = present(clip)
    return who[np.argsort(-speed[who], kind="stable")]


def remove_person(clip: Clip, which: str) -> Clip:
    """The ``most_moving`` or ``least_moving`` person of a clip of several is missing."""
    out = clip.copy()
    out[by_movement(clip)[0 if which == "most_moving" else -1]] = 0
    return out


def _without(clip: Clip, gone: NDArray[np.bool_]) -> Clip:
    return np.where(gone[..., None], np.float32(0), clip)
