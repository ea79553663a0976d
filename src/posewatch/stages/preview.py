"""Clips → previews: small files that a grid of two dozen loops smoothly, and their joints to be drawn over them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.artifact import Artifact, Job, collect, members
from posewatch.records import Skeleton
from posewatch.stages.contents import clips_of, row_of, skeletons_of
from posewatch.stages.parallel import each
from posewatch.store import ObjectStore

SIDE = 320
"""Longer side of a preview in pixels."""


def _make(job: Job, config: Any, folder: Path) -> None:
    clips, skeletons = job.parents
    poses = skeletons_of(skeletons)
    with tempfile.TemporaryDirectory(prefix="posewatch-preview-") as temp:
        for clip in clips_of(clips):
            source = clips.fetch(f"{clip.id}.mp4", Path(temp))
            size = shrink(source, folder / f"{clip.id}.mp4", clip.fps, int(job.config["side"]))
            source.unlink()
            if clip.id in poses:
                (folder / f"{clip.id}.json").write_text(joints(poses[clip.id], size), encoding="utf-8")


def shrink(source: Path, target: Path, fps: float, side: int = SIDE) -> tuple[int, int]:
    """Write a preview whose longer side is at most ``side`` pixels; returns its (width, height). It has no sound."""
    from posewatch import video

    frames = video.read(source, fps=fps, max_side=side)
    first = next(iter(frames)).image
    height, width = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2
    with video.Writer(target, fps, (width, height)) as out:
        out.write(np.ascontiguousarray(first[:height, :width]))
        for frame in frames:
            out.write(np.ascontiguousarray(frame.image[:height, :width]))
    return width, height


def joints(skeleton: Skeleton, size: tuple[int, int]) -> str:
    """JSON {w, h, fps, frames}: per frame the persons seen, each x, y, 100 * score of every joint, as whole numbers."""
    scale = np.array([size[0] / skeleton.width, size[1] / skeleton.height, 100], np.float32)
    whole: NDArray[np.int64] = np.rint(skeleton.keypoints * scale).astype(np.int64)  # (M, T, V, 3)
    seen = skeleton.keypoints[..., 2].max(2) > 0  # (M, T)
    frames = [
        [whole[m, t].ravel().tolist() for m in range(whole.shape[0]) if seen[m, t]] for t in range(whole.shape[1])
    ]
    told = {"w": size[0], "h": size[1], "fps": skeleton.fps, "frames": frames}
    return json.dumps(told, separators=(",", ":")) + "\n"


def preview(store: ObjectStore, clips: Artifact, skeletons: Artifact, side: int = SIDE) -> Artifact:
    """Previews of every clip of a set (``<clip id>.mp4``, ``<clip id>.json``); returns the set of previews."""
    poses = {row["video"]: artifact for row, artifact in members(skeletons)}
    rows = [(row, artifact) for row, artifact in members(clips) if row["video"] in poses]
    jobs = [Job("previews", row["video"], {"side": side}, (artifact, poses[row["video"]])) for row, artifact in rows]
    names = [row["names"][0] for row, _ in rows]
    return collect(store, "preview", [row_of(row) for row, _ in rows], each(store, "preview", jobs, names, None, _make))
