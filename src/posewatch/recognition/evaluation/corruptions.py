"""Corruptions of keypoints: joints, body parts, frames or a person missing, joints misplaced.

Each takes a clip (M, T, V, 3) and returns another; a missing joint is x = y = score = 0.
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
    "arm": "arm elbow wrist hand thumb finger forefinger index pinky tip palm forearm",
    "leg": "leg knee ankle foot toe heel thigh shin",
}
_PART_OF = {word: part for part, words in _WORDS.items() for word in words.split()}
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}


def body_parts(layout: Layout) -> dict[str, tuple[int, ...]]:
    """Name → joints of each body part; an observed joint is in at most one.

    The parts are head, left_arm, right_arm, torso, left_leg and right_leg, by the words in the joints' names. Where no
    name contains a limb, they are the branches of the layout's graph, named after their last joint, and ``core``, the
    remaining joints.
    """
    v = layout.observed
    parts: dict[str, list[int]] = {}
    for joint, name in enumerate(layout.joints[:v]):
        words = [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
        side = next((_SIDES[w] for w in words if w in _SIDES), "")
        # The first known word decides: the tip of left_hand_tip belongs to the arm.
        part = next((_PART_OF[w.rstrip("s")] for w in words if w.rstrip("s") in _PART_OF), "")
        if part in ("arm", "leg"):
            part = f"{side}_{part}" if side else ""
        if part:
            parts.setdefault(part, []).append(joint)
    if not any(part.endswith(("_arm", "_leg")) for part in parts):
        return _branches(layout)
    order = ("head", "left_arm", "right_arm", "torso", "left_leg", "right_leg")
    return {part: tuple(parts[part]) for part in order if part in parts}


def _branches(layout: Layout) -> dict[str, tuple[int, ...]]:
    """The chains of joints from each end of the graph to the first joint where several meet, and the rest."""
    v = layout.observed
    neighbours: list[set[int]] = [set() for _ in range(v)]
    for a, b in layout.edges:
        if a < v and b < v:
            neighbours[a].add(b)
            neighbours[b].add(a)
    parts: dict[str, tuple[int, ...]] = {}
    taken: set[int] = set()
    for end in range(v):
        if len(neighbours[end]) != 1 or end in taken:
            continue
        chain = [end]
        while (ahead := neighbours[chain[-1]] - set(chain)) and len(neighbours[min(ahead)]) == 2:
            chain.append(min(ahead))
        if layout.centre in chain:
            chain = chain[: chain.index(layout.centre)]
        if chain:
            parts[layout.joints[end]] = tuple(sorted(chain))
            taken.update(chain)
    rest = tuple(j for j in range(v) if j not in taken)
    return {**parts, "core": rest} if rest else parts


def drop_joints(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    """Drop each joint of each frame with probability ``share``, independently."""
    return _without(clip, rng.random(clip.shape[:3]) < share)


def drop_tracks(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    """Drop each joint of each person from the whole clip with probability ``share``, as if it were occluded."""
    m, _, v, _ = clip.shape
    return _without(clip, rng.random((m, 1, v)) < share)


def drop_frames(clip: Clip, share: float, rng: np.random.Generator) -> Clip:
    """Drop everybody from a ``share`` of the frames, rounded down; at least one frame stays."""
    out, length = clip.copy(), clip.shape[1]
    out[:, rng.permutation(length)[: min(int(share * length + 1e-9), length - 1)]] = 0
    return out


def hide(clip: Clip, joints: tuple[int, ...]) -> Clip:
    """Drop the given joints of every person from the whole clip."""
    out = clip.copy()
    out[:, :, list(joints)] = 0
    return out


def jitter(clip: Clip, level: float, rng: np.random.Generator) -> Clip:
    """Add normal noise to every visible joint; its standard deviation in x and in y is ``level`` body sizes."""
    noise = rng.standard_normal((*clip.shape[:3], 2)) * level * body_size(clip)
    out = clip.copy()
    out[..., :2] += (noise * (clip[..., 2:] > 0)).astype(np.float32)
    return out


def body_size(clip: Clip) -> float:
    """Root mean square distance, in pixels, of the visible joints from the mean joint of their person and frame."""
    seen = (clip[..., 2:] > 0).astype(np.float64)
    middle = (clip[..., :2] * seen).sum(2, keepdims=True) / np.maximum(seen.sum(2, keepdims=True), 1)
    return float(np.sqrt((((clip[..., :2] - middle) ** 2) * seen).sum() / max(seen.sum(), 1)))


def present(clip: Clip) -> NDArray[np.int64]:
    """The indices of the persons with a visible joint."""
    return np.flatnonzero((clip[..., 2] > 0).any((1, 2)))


def by_movement(clip: Clip) -> NDArray[np.int64]:
    """The indices of the persons present, sorted from most to least movement (mean pixels per frame)."""
    seen = clip[..., 2] > 0
    both = seen[:, 1:] & seen[:, :-1]
    step = np.linalg.norm(np.diff(clip[..., :2].astype(np.float64), axis=1), axis=-1)
    speed = (step * both).sum((1, 2)) / np.maximum(both.sum((1, 2)), 1)
    who = present(clip)
    return who[np.argsort(-speed[who], kind="stable")]


def remove_person(clip: Clip, which: str) -> Clip:
    """Drop the ``most_moving`` or ``least_moving`` person."""
    out = clip.copy()
    out[by_movement(clip)[0 if which == "most_moving" else -1]] = 0
    return out


def _without(clip: Clip, dropped: NDArray[np.bool_]) -> Clip:
    return np.where(dropped[..., None], np.float32(0), clip)
