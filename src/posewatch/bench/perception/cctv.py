"""How often people are found in real CCTV clips, against counts by eye.

The counts are a csv file: ``file`` below the folder of the videos, and ``visible``, one letter for each of the frames
looked at, evenly spaced over the clip: y where you see at least one person in it, n where you see nobody.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.config import Experiment
from posewatch.datasets.tables import table
from posewatch.errors import InputError
from posewatch.files import write_atomically
from posewatch.perception.masking import mask_video
from posewatch.perception.networks import build_detector, build_estimator, build_segmenter
from posewatch.perception.skeletons import completed, estimate_video, follow, skeleton
from posewatch.perception.storage import DETECTIONS, read_detections

GOALS = {"clips": 0.95, "frames": 0.88}
"""Share of the clips with a visible person in which somebody has a skeleton, and the same of the frames."""


def counted(path: Path) -> list[tuple[str, NDArray[np.bool_]]]:
    """(file, whether a person is visible in each frame looked at) of a csv file. Raises LabelError or InputError."""
    rows = []
    for row in table(path, ("file", "visible")):
        letters = row["visible"].strip().lower()
        if not letters or letters.strip("yn"):
            raise InputError(f"{path.name} row {row.number}: visible is {letters!r}, not a row of y and n")
        rows.append((row["file"].strip(), np.array([letter == "y" for letter in letters])))
    return rows


def looked_at(frames: int, count: int) -> list[int]:
    """The ``count`` frames, evenly spaced over a clip of ``frames``, that are looked at."""
    return [int((i + 0.5) * frames / count) for i in range(count)]


def summary(results: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> dict[str, Any]:
    """The figures from (visible, found) in the frames looked at of each clip.

    ``clips`` and ``frames`` are the shares in which somebody is found where somebody is visible;
    ``false_frames`` counts the ``empty_frames`` with a skeleton.
    """
    peopled = [(visible, found) for visible, found in results if visible.any()]
    visible = np.concatenate([v for v, _ in results])
    found = np.concatenate([f for _, f in results])
    return {
        "counted_clips": len(peopled),
        "clips": round(float(np.mean([f.any() for _, f in peopled])), 4) if peopled else None,
        "counted_frames": int(visible.sum()),
        "frames": round(float(found[visible].mean()), 4) if visible.any() else None,
        "empty_frames": int((~visible).sum()),
        "false_frames": int((found & ~visible).sum()),
    }


def bench_cctv(out: Path, config: Experiment, videos: Path, counts: Path) -> dict[str, Any]:
    """Mask the counted clips and make their skeletons, as the pipeline does; returns the content of cctv.json.

    With the figures of ``summary``: ``two_people``, the share of all frames with at least two skeletons, CPU ms per
    frame of masking and of skeletons, and the figures of each clip. Raises InputError, LabelError or VideoError.
    """
    rows = counted(counts)
    missing = [file for file, _ in rows if not (videos / file).is_file()]
    if not rows or missing:
        raise InputError(f"{videos} has no {missing[0]}" if missing else f"{counts} counts no clip")
    detector = build_detector(config.mask)
    segmenter, estimator = build_segmenter(config.mask, detector), build_estimator(config.pose)
    results, clips = [], []
    masking_s = pose_s = 0.0
    two = frames = 0
    for file, visible in rows:
        with tempfile.TemporaryDirectory(prefix="posewatch-bench-") as temp:
            masked = Path(temp) / "masked.mp4"
            begun = time.process_time()
            report = mask_video(videos / file, masked, config.mask, detector=detector, segmenter=segmenter)
            between = time.process_time()
            persons = estimate_video(masked, config.pose, estimator=estimator)
            if config.mask.detector == config.pose.estimator:
                persons = completed(persons, read_detections(masked.with_name(DETECTIONS)))
            made = skeleton(follow(persons, config.pose), config.pose, report.fps, report.width, report.height)
            masking_s, pose_s = masking_s + between - begun, pose_s + time.process_time() - between
        people = (made.keypoints[..., 2] > 0).any(-1).sum(0)  # (T,)
        found = people[looked_at(report.frames, len(visible))] > 0
        results.append((visible, found))
        clips.append({"file": file, "visible": int(visible.sum()), "found": int((found & visible).sum())})
        two, frames = two + int((people >= 2).sum()), frames + report.frames
    figures = {
        **summary(results),
        "all_frames": frames,
        "two_people": round(two / frames, 4),
        "masking_cpu_ms": round(1000 * masking_s / frames, 1),
        "skeletons_cpu_ms": round(1000 * pose_s / frames, 1),
    }
    goals = {k: {"goal": g, "met": figures[k] is not None and figures[k] >= g} for k, g in GOALS.items()}
    whole = {**figures, "goals": goals, "each": clips}
    write_atomically(out / "cctv.json", json.dumps(whole, indent=1) + "\n")
    return whole
