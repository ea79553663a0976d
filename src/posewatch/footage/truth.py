"""The exact ground truth of a rendered video: masks, boxes and COCO-17 keypoints with visibility."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError
from posewatch.files import atomic
from posewatch.footage.engine import LINKS, Figure
from posewatch.footage.scene import Camera, Shot

_HEAD = {0: (0.124, 0.158, 0.0), 1: (0.10, 0.188, -0.032), 2: (0.10, 0.188, 0.032), 3: (0.002, 0.165, -0.082), 4: (0.002, 0.165, 0.082)}  # fmt: skip
_BODY = {
    5: "left_shoulder", 6: "right_shoulder", 7: "left_elbow", 8: "right_elbow", 9: "left_wrist", 10: "right_wrist",
    11: "left_hip", 12: "right_hip", 13: "left_knee", 14: "right_knee", 15: "left_ankle", 16: "right_ankle",
}  # fmt: skip
_TIPS = {"left_wrist": (0, -0.16, 0), "right_wrist": (0, -0.16, 0), "left_ankle": (0.16, -0.04, 0), "right_ankle": (0.16, -0.04, 0)}  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """Ground truth of T frames with P persons.

    ``masks`` bool (T, P, H, W); ``boxes`` float32 (T, P, 4) x1 y1 x2 y2 in pixels, zeros where the person is not
    visible; ``keypoints`` float32 (T, P, 17, 3) x, y in pixels and visibility in [0, 1].
    """

    masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    fps: float


def joints(figure: Figure) -> NDArray[np.float64]:
    """COCO-17 joints (17, 3) in metres of the figure in its current pose."""
    origins, turns = figure.frames()
    out = np.empty((17, 3))
    neck = LINKS["neck"]
    for i, at in _HEAD.items():
        out[i] = origins[neck] + turns[neck] @ np.array(at) * figure.height
    for i, name in _BODY.items():
        out[i] = origins[LINKS[name]]
    return out


def extremes(figure: Figure) -> NDArray[np.float64]:
    """Points (6, 3) in metres at the far ends of the figure: crown, chin, hands and toes."""
    origins, turns = figure.frames()
    ends = {"neck": (0.0, 0.29, 0.0), **_TIPS}
    points = [origins[LINKS[n]] + turns[LINKS[n]] @ np.array(at) * figure.height for n, at in ends.items()]
    return np.array([*points, origins[LINKS["neck"]]])


def observe(
    shot: Shot, camera: Camera, body: int, points: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
    """Mask (H, W), box (4,) and keypoints (17, 3) of one person in one frame; ``points`` are the joints (17, 3).

    A joint lies inside the body: it is visible when the surface there is at most a limb's depth in front of it.
    """
    mask = shot.bodies == body
    box = np.zeros(4, np.float32)
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    projected = camera.project(points)
    width, height = camera.size
    x, y = np.round(projected[:, 0]).astype(int), np.round(projected[:, 1]).astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (projected[:, 2] > 0)
    depth = projected[:, 2] - shot.depth[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    thick = np.where(np.isin(np.arange(17), (5, 6, 11, 12)), 0.16, 0.09)
    visible = np.where(inside, np.clip(1 - (depth - thick) / 0.1, 0, 1), 0)
    return mask, box, np.concatenate([projected[:, :2], visible[:, None]], 1).astype(np.float32)


def write_truth(path: Path, truth: Truth) -> None:
    """Write ``path`` (npz: masks bit-packed along the width, their width, boxes, keypoints, fps) atomically."""
    with atomic(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file, masks=np.packbits(truth.masks, axis=-1), width=np.int64(truth.masks.shape[-1]),
            boxes=truth.boxes, keypoints=truth.keypoints, fps=np.float64(truth.fps),
        )  # fmt: skip


def read_truth(path: Path) -> Truth:
    """The file that ``write_truth`` wrote. Raises InputError for a missing file or another kind of file."""
    try:
        with path.open("rb") as file, np.load(file) as data:
            masks = np.unpackbits(data["masks"], axis=-1, count=int(data["width"])).astype(bool)
            return Truth(masks, data["boxes"], data["keypoints"], float(data["fps"]))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:  # the last two: empty, cut short
        raise InputError(f"no ground truth in {path}: {error} (render it with posewatch footage)") from error
