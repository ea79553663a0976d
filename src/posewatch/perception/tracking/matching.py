"""Similarity of persons in two frames by boxes and keypoints, one-to-one assignment, and duplicates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posewatch.records import Detections

Floats = NDArray[np.float32]

_HEAD, _ARMS, _LEGS = (0.026, 0.025, 0.025, 0.035, 0.035), (0.079, 0.072, 0.062), (0.107, 0.087, 0.089)
COCO_SIGMAS = np.array([*_HEAD, *np.repeat(_ARMS, 2), *np.repeat(_LEGS, 2)], np.float32)
"""Standard deviation of COCO's annotators at each of the 17 joints, relative to the person's size."""
_SAME = 0.4
"""IoU or OKS from which detections of two looks at one image are the same person."""


def iou(a: Floats, b: Floats) -> Floats:
    """IoU (P, Q) of boxes (P, 4) and (Q, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    area_a, area_b = area(a), area(b)
    union = area_a[:, None] + area_b[None] - shared
    out: Floats = (shared / np.maximum(union, 1e-6)).astype(np.float32)
    return out


def area(boxes: Floats) -> Floats:
    """Areas (P,) of boxes (P, 4), in square pixels."""
    sides: Floats = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    out: Floats = sides[:, 0] * sides[:, 1]
    return out


def oks(a: Floats, b: Floats, areas: Floats, min_score: float = 0.2, slack: float = 1.0) -> Floats:
    """Object keypoint similarity (P, Q) of keypoints (P, V, 3) and (Q, V, 3), over joints that score at least
    ``min_score`` in both.

    ``areas`` (P, Q) in square pixels sets the scale, ``slack`` widens the tolerance (for persons who moved between
    two frames). Fewer than three shared joints give 0.
    """
    joints = a.shape[1]
    sigmas = COCO_SIGMAS if joints == len(COCO_SIGMAS) else np.full(joints, float(COCO_SIGMAS.mean()), np.float32)
    both = (a[:, None, :, 2] >= min_score) & (b[None, :, :, 2] >= min_score)
    distance = ((a[:, None, :, :2] - b[None, :, :, :2]) ** 2).sum(-1)
    scale = 2 * (2 * sigmas * slack) ** 2 * np.maximum(areas, 1.0)[..., None]
    near = np.exp(-distance / scale) * both
    count = both.sum(-1)
    out: Floats = np.where(count >= 3, near.sum(-1) / np.maximum(count, 1), 0).astype(np.float32)
    return out


def pair(similarity: Floats, least: float) -> list[tuple[int, int]]:
    """The one-to-one pairs (row, column) of a similarity (P, Q) with the largest sum, none of them below ``least``."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(np.where(similarity >= least, similarity, 0), maximize=True)
    return [(int(p), int(q)) for p, q in zip(rows, columns, strict=True) if similarity[p, q] >= least]


def distinct(boxes: Floats, scores: Floats, keypoints: Floats | None) -> list[int]:
    """Indices of the detections that are different persons, best score first.

    A detection is a duplicate when its joints lie on those of a better one, or its box is nearly the same. Boxes that
    merely overlap are not: people do stand in front of each other.
    """
    clash = iou(boxes, boxes) > 0.8
    if keypoints is not None:
        areas = area(boxes)
        clash |= oks(keypoints, keypoints, np.maximum(areas[:, None], areas[None])) > 0.5
    return suppress(scores, clash)


def suppress(scores: Floats, clash: NDArray[np.bool_]) -> list[int]:
    """Non-maximum suppression: indices, best score first, that ``clash`` (N, N; symmetric) with no better one left."""
    order = np.argsort(-scores, kind="stable")
    alive = np.ones(len(scores), bool)
    for i in order:
        if alive[i]:
            alive &= ~clash[i]
            alive[i] = True
    return [int(i) for i in order if alive[i]]


def merged(looks: Sequence[Detections]) -> Detections:
    """The persons of several looks at one image, each once, with the box and the joints of the look that is surest.

    The scores of a person are combined as if the looks erred independently: two weak detections in one place are as
    good as a strong one. Needs keypoints.
    """
    kept = looks[0]
    for look in looks[1:]:
        kept = _added(kept, look)
    order = np.argsort(-kept.scores, kind="stable").tolist()
    return kept.pick(order)


def _added(kept: Detections, look: Detections) -> Detections:
    if not len(kept) or not len(look):
        return kept if len(kept) else look
    assert kept.keypoints is not None
    assert look.keypoints is not None
    areas = np.maximum(area(kept.boxes)[:, None], area(look.boxes)[None])
    similarity = np.maximum(iou(kept.boxes, look.boxes), oks(kept.keypoints, look.keypoints, areas, min_score=0.1))
    boxes, scores, keypoints = kept.boxes.copy(), kept.scores.copy(), kept.keypoints.copy()
    for i, j in pair(similarity, _SAME):
        if look.scores[j] > scores[i]:
            boxes[i], keypoints[i] = look.boxes[j], look.keypoints[j]
        scores[i] = 1 - (1 - scores[i]) * (1 - look.scores[j])
    new = np.flatnonzero((similarity < _SAME).all(0))  # the second detection of somebody is nobody new
    return Detections(
        np.concatenate([boxes, look.boxes[new]]),
        np.concatenate([scores, look.scores[new]]),
        np.concatenate([keypoints, look.keypoints[new]]),
    )
