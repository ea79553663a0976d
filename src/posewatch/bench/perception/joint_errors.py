"""The pose estimator's errors on rendered videos, against exact truth: the figures of ``footage.joint_errors``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.config import PoseConfig
from posewatch.errors import InputError
from posewatch.files import write_atomically
from posewatch.footage.joint_errors import CLEAR, GROUP, GROUPS
from posewatch.footage.truth import Truth, read_truth
from posewatch.perception.skeletons import estimate_video, follow
from posewatch.perception.tracking.matching import iou, pair
from posewatch.progress import Progress

REPORT = "joint_errors.json"
_SAME = 0.3
"""IoU from which a detection is that person."""


def bench_joint_errors(footage: Path, out: Path, config: PoseConfig) -> dict[str, Any]:
    """Measure on the videos in ``footage``, a folder of ``posewatch footage``; writes and returns the report."""
    videos = [(path, footage / "truth" / f"{path.stem}.npz") for path in sorted(footage.glob("video-*.mp4"))]
    if not videos:
        raise InputError(f"no rendered videos in {footage}: make some with `posewatch footage --out {footage}`")
    seen = []
    with Progress("joint errors", len(videos)) as progress:
        for path, known in videos:
            truth = read_truth(known)
            frames = follow(estimate_video(path, config, fps=truth.fps), config)
            seen.append(matched(truth, [(f.boxes, f.keypoints) for f in frames]))
            progress.advance()
    report = {"estimator": config.estimator, "videos": len(videos), **figures(seen)}
    write_atomically(out / REPORT, json.dumps(report, indent=1) + "\n")
    return report


def matched(truth: Truth, frames: Sequence[tuple[Any, Any]]) -> NDArray[np.float64]:
    """(P, T, 17, 4) of the true persons of a video: error in x and y in shares of the body's longer side, score, and
    whether the camera sees the joint; scores are -1 where the person is not found, all is nan where nobody is."""
    count = min(len(frames), len(truth.boxes))
    out = np.full((truth.boxes.shape[1], count, 17, 4), np.nan)
    for t, (boxes, points) in enumerate(frames[:count]):
        there = np.flatnonzero((truth.boxes[t] > 0).any(1))
        pairs = dict(pair(iou(truth.boxes[t, there], boxes), _SAME)) if len(there) and len(boxes) else {}
        for i, who in enumerate(there):
            joints = truth.keypoints[t, who]
            out[who, t, :, 2], out[who, t, :, 3] = -1, joints[:, 2] > 0.5
            if i in pairs:
                found = points[pairs[i]]
                out[who, t, :, :2] = (found[:, :2] - joints[:, :2]) / max(float(np.ptp(joints[:, :2], axis=0).max()), 4)
                out[who, t, :, 2] = found[:, 2]
    return out


def figures(seen: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """The tables of ``footage.joint_errors`` from what ``matched`` gave of each video."""
    persons = [row for video in seen for row in video]
    flat = np.concatenate(persons)
    score, visible = flat[..., 2], flat[..., 3]
    tables: dict[str, list[list[list[float]]]] = {"errors": [], "scores": []}
    for kind in (1, 0):
        chosen = (score >= 0) & (visible == kind)
        size = np.log(np.hypot(flat[..., 0], flat[..., 1]).clip(1e-4))
        sure = np.log(score.clip(0.001, 0.999) / (1 - score.clip(0.001, 0.999)))
        for name, values in (("errors", size), ("scores", sure)):
            groups = [values[chosen & (group == GROUP)] for group in range(len(GROUPS))]
            tables[name].append([[round(float(g.mean()), 3), round(float(g.std()), 3)] for g in groups])
    lost = []
    for clear in (True, False):
        stays: list[bool] = []
        begins: list[bool] = []
        for row in persons:
            known = ~np.isnan(row[:, 0, 2])
            gone = row[:, :, 2].max(1) < 0
            share = row[..., 3].mean(1)
            for t in range(1, len(row)):
                if known[t - 1] and known[t] and (share[t] >= CLEAR) == clear:
                    (stays if gone[t - 1] else begins).append(bool(gone[t]))
        lost.append([round(float(np.mean(rows)) if rows else 0.0, 3) for rows in (stays, begins)])
    steps = [(row[1:, :, :2], row[:-1, :, :2]) for row in persons]
    now, before = (np.concatenate([s[k].reshape(-1) for s in steps]) for k in (0, 1))
    both = ~np.isnan(now) & ~np.isnan(before) & (np.abs(now) < 0.3) & (np.abs(before) < 0.3)
    rho = float(np.corrcoef(now[both], before[both])[0, 1])
    counts = {"joints": int((score >= 0).sum()), "hidden": int(((score >= 0) & (visible == 0)).sum())}
    return {"groups": list(GROUPS), **tables, "lost": lost, "rho": round(rho, 3), **counts}
