"""Previews of clips: videos so small that a grid of two dozen plays smoothly in the labeling page, and their joints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posewatch.records import Skeleton

SIDE = 320
"""Longer side of a preview in pixels."""


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
    content = {"w": size[0], "h": size[1], "fps": skeleton.fps, "frames": frames}
    return json.dumps(content, separators=(",", ":")) + "\n"
