"""Metrics of masks, skeletons and detections against the exact ground truth of rendered footage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posewatch.footage.truth import Truth
from posewatch.perception.ports import Mask, Masks
from posewatch.perception.tracking.matching import iou, oks, pair
from posewatch.records import Detections

MIN_PIXELS = 400
"""True persons with fewer visible pixels are left out."""
UNOCCLUDED = 0.75
"""Share of visible joints from which a person counts as unoccluded."""
_SAME = 0.3
"""IoU from which a detection is that person."""
_TORSO_DIAGONALS = ((5, 12), (6, 11))


@dataclass(frozen=True)
class PersonResult:
    """One true person in one frame. ``height`` of the true box in pixels, ``visibility`` the share of visible joints.

    ``detected``: a detection matches. ``shown`` is the share of the person's pixels that the masked frame shows, and
    ``iou`` is of the person's own mask. Of the visible ``joints``, ``near`` are predicted within 0.2 of the box's
    longer side (Yang & Ramanan, 2013), ``near_torso`` within 0.2 of the torso's diagonal (Sapp & Taskar, 2013).
    ``track_id`` is that of the detection, -1 for none.
    """

    frame: int
    person: int
    height: float
    visibility: float
    detected: bool
    shown: float
    iou: float
    oks: float
    joints: int
    near: int
    near_torso: int
    track_id: int


@dataclass(frozen=True)
class FrameResult:
    """One frame: IoU of the shown pixels and all true persons, and the share of the background that is shown."""

    frame: int
    iou: float
    leaked: float


def compare(
    t: int, truth: Truth, persons: Detections, masks: Masks | None = None, shown: Mask | None = None
) -> tuple[list[PersonResult], FrameResult | None]:
    """Frame ``t``: persons with their masks (P, H, W), and the shown pixels (H, W), against the ground truth.

    Without masks only the skeletons are compared. The second result is None when no true person is visible.
    """
    if shown is None:
        shown = np.zeros(truth.masks.shape[2:], bool)
    people = truth.masks[t].any(0)
    visible = [q for q in range(truth.masks.shape[1]) if truth.masks[t, q].sum() >= MIN_PIXELS]
    matched: dict[int, int] = {}
    if visible and len(persons):
        matched = {visible[a]: b for a, b in pair(iou(truth.boxes[t, visible], persons.boxes), _SAME)}
    rows = [_person(t, q, truth, persons, matched.get(q), masks, shown) for q in visible]
    if not visible:
        return rows, None
    union = (shown & people).sum() / max(1, (shown | people).sum())
    return rows, FrameResult(t, float(union), float((shown & ~people).sum() / max(1, (~people).sum())))


def _person(
    t: int, q: int, truth: Truth, persons: Detections, match: int | None, masks: Masks | None, shown: Mask
) -> PersonResult:
    """True person ``q`` and the detection ``match``."""
    mask, box, joints = truth.masks[t, q], truth.boxes[t, q], truth.keypoints[t, q]
    visible = joints[:, 2] > 0.5
    overlap, similarity, near, near_torso, track_id = 0.0, 0.0, 0, 0, -1
    if match is not None and masks is not None:
        overlap = float((masks[match] & mask).sum() / max(1, (masks[match] | mask).sum()))
    if match is not None and persons.keypoints is not None:
        predicted = persons.keypoints[match : match + 1].copy()
        distance = np.linalg.norm(predicted[0, :, :2] - joints[:, :2], axis=1)[visible]
        side = float(max(box[2] - box[0], box[3] - box[1]))
        torso = max(float(np.linalg.norm(joints[a, :2] - joints[b, :2])) for a, b in _TORSO_DIAGONALS)
        near, near_torso = int((distance < 0.2 * side).sum()), int((distance < 0.2 * torso).sum())
        predicted[..., 2] = 1  # every joint counts, whatever its score
        similarity = float(oks(joints[None], predicted, np.array([[mask.sum()]], np.float32), 0.5)[0, 0])
    if match is not None and persons.ids is not None:
        track_id = int(persons.ids[match])
    return PersonResult(
        t, q, float(box[3] - box[1]), float(visible.mean()), match is not None,
        float((shown & mask).sum() / mask.sum()), overlap, similarity, int(visible.sum()), near, near_torso, track_id,
    )  # fmt: skip


def switches(rows: Sequence[PersonResult]) -> int:
    """How often the track id of a true person changes, over the rows of one video in the order of its frames."""
    last: dict[int, int] = {}
    count = 0
    for row in rows:
        if row.track_id >= 0:
            count += last.get(row.person, row.track_id) != row.track_id
            last[row.person] = row.track_id
    return count


def summary(rows: Sequence[PersonResult], frames: Sequence[FrameResult], id_switches: int) -> dict[str, float]:
    """The metrics over many frames; those of joints and of persons' masks are over unoccluded persons.

    A person who is not detected has IoU 0 and no joint near.
    """
    clear = [r for r in rows if r.visibility >= UNOCCLUDED]
    joints = max(1, sum(r.joints for r in clear))

    def mean(values: Sequence[float]) -> float:
        return round(float(np.mean(values)), 4) if len(values) else 0.0

    return {
        "frames": len(frames),
        "persons": len(rows),
        "unoccluded": len(clear),
        "mask_iou": mean([f.iou for f in frames]),
        "person_iou": mean([r.iou for r in clear]),
        "covered": mean([r.shown for r in clear]),
        "background_leaked": mean([f.leaked for f in frames]),
        "pck_0.2_box": round(sum(r.near for r in clear) / joints, 4),
        "pck_0.2_torso": round(sum(r.near_torso for r in clear) / joints, 4),
        "oks": mean([r.oks for r in clear]),
        "detected": mean([float(r.detected) for r in rows]),
        "detected_unoccluded": mean([float(r.detected) for r in clear]),
        "shown": mean([float(r.shown > 0.5) for r in rows]),
        "id_switches": id_switches,
    }


def rates(rows: Sequence[PersonResult], values: Sequence[float], edges: Sequence[float]) -> list[dict[str, float]]:
    """Detection rate in each bin of ``values`` (one per row) between ``edges``; empty bins are left out."""
    bins = np.digitize(values, edges[1:-1])
    table = []
    for b in range(len(edges) - 1):
        chosen = [r.detected for r, number in zip(rows, bins, strict=True) if number == b]
        if chosen:
            rate = round(float(np.mean(chosen)), 4)
            table.append({"from": edges[b], "to": edges[b + 1], "persons": len(chosen), "detected": rate})
    return table
