"""Skeletons of rendered people as labelled clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posewatch.datasets.clipset import ClipSet
from posewatch.footage.skeletons import ACTS, KINDS, make_skeletons
from posewatch.progress import Progress

LAYOUT = "coco17"


def rendered_clips(
    count: int, *, seconds: float = 3.0, fps: float = 10.0, seed: int = 0, kinds: Sequence[str] = KINDS
) -> ClipSet:
    """``count`` clips of the ``kinds`` of scenes, labelled with what is done in them; the groups are the scenes. Raises
    PosewatchError without pybullet."""
    with Progress("rendered skeletons", count, "clip") as progress:
        made = make_skeletons(count, seconds=seconds, fps=fps, seed=seed, kinds=kinds, progress=progress.advance)
    acts = [act for act in ACTS if any(clip.act == act for clip in made)]
    # A set of clips has two classes at least, also where all of a few clips are of one.
    classes = acts if len(acts) > 1 else [*acts, *(act for act in ACTS if act not in acts)][:2]
    return ClipSet(
        keypoints=tuple(clip.keypoints for clip in made),
        labels=np.array([classes.index(clip.act) for clip in made], np.int64),
        classes=tuple(classes),
        ids=tuple(f"{clip.scene}_{i:06d}" for i, clip in enumerate(made)),
        groups=tuple(clip.scene for clip in made),
        fps=fps,
        layout=LAYOUT,
        certain=True,
    )
