"""How good masks, skeletons and detections are, against the exact truth of rendered footage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posewatch.footage.truth import Truth
from posewatch.perception.tracking.matching import iou, oks, pair
from posewatch.records import Detections

SMALL = 400
"""Pixels below which nobody could be expected to see a person."""
CLEAR = 0.75
"""Share of the joints in sight from which a figure counts as unoccluded."""
_SAME = 0.3
"""Overlap of boxes from which a detection is that person."""
_DIAGONALS = ((5, 12), (6, 11))


@dataclass(frozen=True)
class Seen:
    """One true person in one frame. ``height`` is of the true box in pixels, ``sight`` the share of joints in sight.

    ``found`` says that a detection lies there, ``covered`` the share of the person that is shown, ``iou`` how well the
    person's own mask fits. Of ``joints`` in sight ``near`` counts those within 0.2 of the box's longer side (Yang &
    Ramanan, 2013), ``near_torso`` those within 0.2 of the torso's diagonal (Sapp & Taskar, 2013). ``number`` is the
    detection's person, -1 for none.
    """

    frame: int
    person: int
    height: float
    sight: float
    found: bool
    covered: float
    iou: float
    oks: float
    joints: int
    near: int
    near_torso: int
    number: int


@dataclass(frozen=True)
class Picture:
    """One frame: IoU of what is shown with all true persons, and the share of the background that is shown."""

    frame: int
    iou: float
    leaked: float


def compare(
    t: int,
    truth: Truth,
    persons: Detections,
    masks: NDArray[np.bool_] | None = None,
    shown: NDArray[np.bool_] | None = None,
) -> tuple[list[Seen], Picture | None]:
    """Frame ``t``: persons with their masks (P, H, W), and what is shown (H, W), against the truth.

    Without masks only the skeletons are compared. The picture is None when nobody can be seen in it.
    """
    if shown is None:
        shown = np.zeros(truth.masks.shape[2:], bool)
    real = truth.masks[t].any(0)
    there = [q for q in range(truth.masks.shape[1]) if truth.masks[t, q].sum() >= SMALL]
    matched: dict[int, int] = {}
    if there and len(persons):
        matched = {there[a]: b for a, b in pair(iou(truth.boxes[t, there], persons.boxes), _SAME)}
    rows = []
    for q in there:
        i = matched.get(q)
        mask, box, joints = truth.masks[t, q], truth.boxes[t, q], truth.keypoints[t, q]
        clear = joints[:, 2] > 0.5
        fit, alike, near, near_torso = 0.0, 0.0, 0, 0
        if i is not None and masks is not None:
            fit = float((masks[i] & mask).sum() / max(1, (masks[i] | mask).sum()))
        if i is not None and persons.keypoints is not None:
            away = np.linalg.norm(persons.keypoints[i, :, :2] - joints[:, :2], axis=1)[clear]
            side = float(max(box[2] - box[0], box[3] - box[1]))
            torso = max(float(np.linalg.norm(joints[a, :2] - joints[b, :2])) for a, b in _DIAGONALS)
            near, near_torso = int((away < 0.2 * side).sum()), int((away < 0.2 * torso).sum())
            guess = persons.keypoints[i : i + 1].copy()
            guess[..., 2] = 1  # every joint counts, however sure the network is
            alike = float(oks(joints[None], guess, np.array([[mask.sum()]], np.float32), 0.5)[0, 0])
        number = -1 if i is None or persons.ids is None else int(persons.ids[i])
        rows.append(
            Seen(
                t, q, float(box[3] - box[1]), float(clear.mean()), i is not None,
                float((shown & mask).sum() / mask.sum()), fit, alike, int(clear.sum()), near, near_torso, number,
            )
        )  # fmt: skip
    if not there:
        return rows, None
    union = (shown & real).sum() / max(1, (shown | real).sum())
    return rows, Picture(t, float(union), float((shown & ~real).sum() / max(1, (~real).sum())))


def switches(rows: Sequence[Seen]) -> int:
    """How often a true person's number changes, over the rows of one video in the order of frames."""
    last: dict[int, int] = {}
    count = 0
    for row in rows:
        if row.number >= 0:
            count += last.get(row.person, row.number) != row.number
            last[row.person] = row.number
    return count


def summary(rows: Sequence[Seen], pictures: Sequence[Picture], changes: int) -> dict[str, float]:
    """The figures of a benchmark over many frames; skeletons and masks of persons count unoccluded ones only.

    A person who is not found has IoU 0 and no joint near.
    """
    clear = [r for r in rows if r.sight >= CLEAR]
    joints = max(1, sum(r.joints for r in clear))

    def mean(values: Sequence[float]) -> float:
        return round(float(np.mean(values)), 4) if len(values) else 0.0

    return {
        "frames": len(pictures),
        "persons": len(rows),
        "unoccluded": len(clear),
        "mask_iou": mean([p.iou for p in pictures]),
        "person_iou": mean([r.iou for r in clear]),
        "covered": mean([r.covered for r in clear]),
        "background_leaked": mean([p.leaked for p in pictures]),
        "pck_0.2_box": round(sum(r.near for r in clear) / joints, 4),
        "pck_0.2_torso": round(sum(r.near_torso for r in clear) / joints, 4),
        "oks": mean([r.oks for r in clear]),
        "detected": mean([float(r.found) for r in rows]),
        "detected_unoccluded": mean([float(r.found) for r in clear]),
        "shown": mean([float(r.covered > 0.5) for r in rows]),
        "id_switches": changes,
    }


def rates(rows: Sequence[Seen], values: Sequence[float], edges: Sequence[float]) -> list[dict[str, float]]:
    """Detection rate in each bin of ``values`` (one per row) between ``edges``; empty bins are left out."""
    places = np.digitize(values, edges[1:-1])
    found = []
    for b in range(len(edges) - 1):
        chosen = [r for r, place in zip(rows, places, strict=True) if place == b]
        if chosen:
            rate = float(np.mean([r.found for r in chosen]))
            found.append({"from": edges[b], "to": edges[b + 1], "persons": len(chosen), "detected": round(rate, 4)})
    return found
