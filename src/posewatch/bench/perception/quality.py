"""Quality of masks, skeletons and detections.

Rendered footage has exact ground truth. Real videos of one person each (such as GMDCSA24) give the rate of frames in
which the person is detected, and shown thanks to hold. Writes quality.json, quality.png, sheet.jpg and quality.html.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posewatch import video
from posewatch.bench.perception.accuracy import FrameResult, PersonResult, compare, rates, summary, switches
from posewatch.bench.perception.plot import plot
from posewatch.config import Experiment
from posewatch.errors import ConfigError
from posewatch.files import write_atomically
from posewatch.footage.make import FootageVideo, make_footage
from posewatch.footage.truth import read_truth
from posewatch.perception.draw import overlay
from posewatch.perception.masking import MaskedFrame, mask_frames
from posewatch.perception.networks import build_estimator
from posewatch.perception.skeletons import completed, follow
from posewatch.perception.tracking.identities import track
from posewatch.records import Detections
from posewatch.video.files import find_videos

GOALS = {"mask_iou": 0.80, "pck_0.2_box": 0.90, "real_detected": 0.95}
"""Goals of the offline default."""
_HEIGHTS = (0.0, 60.0, 100.0, 150.0, 200.0, 1000.0)
_VISIBILITIES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.01)


def footage(
    videos: Sequence[FootageVideo], config: Experiment
) -> tuple[list[PersonResult], list[FrameResult], dict[str, Any]]:
    """Compare every video with its ground truth; the dict holds the metrics of masking and of the skeletons."""
    rows: list[PersonResult] = []
    frames: list[FrameResult] = []
    skeleton_rows: list[PersonResult] = []
    id_switches = skeleton_switches = 0
    estimator = build_estimator(config.pose)
    for one in videos:
        truth = read_truth(one.truth)
        of_video: list[PersonResult] = []
        estimated: list[Detections] = []
        of_masking: list[Detections] = []
        for masked in mask_frames(one.path, config.mask):
            t = masked.frame.index
            if t >= len(truth.masks):
                break
            if masked.painted.shape[:2] != truth.masks.shape[2:]:
                raise ConfigError(f"mask.max_side={config.mask.max_side} is too small: the footage has 480 pixels")
            persons, frame = compare(t, truth, masked.persons, masked.masks, np.asarray(masked.painted.any(-1), bool))
            of_video += persons
            frames += [frame] if frame else []
            estimated.append(estimator.estimate([masked.painted])[0])
            of_masking.append(masked.persons)
        rows += of_video
        id_switches += switches(of_video)
        if config.mask.detector == config.pose.estimator:
            estimated = completed(estimated, of_masking)
        tracked = _tracked(estimated, config, max(2, truth.masks.shape[1]))
        of_skeletons = [r for t, persons in enumerate(tracked) for r in compare(t, truth, persons)[0]]
        skeleton_rows += of_skeletons
        skeleton_switches += switches(of_skeletons)
    skeletons = summary(skeleton_rows, [], skeleton_switches)
    reported = ("pck_0.2_box", "pck_0.2_torso", "oks", "detected", "id_switches")
    metrics = {"figures": summary(rows, frames, id_switches), "masked_skeletons": {k: skeletons[k] for k in reported}}
    return rows, frames, metrics


def _tracked(frames: Sequence[Detections], config: Experiment, people: int) -> Iterator[Detections]:
    """Per frame the persons of the tracked skeleton; the track id is the index m."""
    keypoints = track(follow(frames, config.pose), people, config.pose.hold)
    for t in range(keypoints.shape[1]):
        present = np.flatnonzero((keypoints[:, t, :, 2] > 0).any(-1))
        points = keypoints[present, t]
        boxes = np.zeros((len(present), 4), np.float32)
        for i, person in enumerate(points):
            confident = person[person[:, 2] > 0.1, :2] if (person[:, 2] > 0.1).any() else person[:, :2]
            boxes[i] = *confident.min(0), *confident.max(0)
        yield Detections(boxes, points[..., 2].mean(-1), points, present.astype(np.int64))


def real(folder: Path, config: Experiment, sheet: list[Any]) -> list[dict[str, Any]]:
    """For each video of one person the share of frames in which the person is detected, and shown thanks to hold."""
    rows = []
    for _, path in find_videos(folder):
        detected = shown = count = 0
        samples: list[MaskedFrame] = []
        for masked in mask_frames(path, config.mask):
            count += 1
            detected += len(masked.persons) > 0
            shown += bool(masked.visible.any())
            if masked.frame.index % 8 == 0:
                samples.append(masked)
        rows.append({"video": path.name, "frames": count, "detected": detected / count, "shown": shown / count})
        for masked in (samples[len(samples) // 4], samples[-2 if len(samples) > 1 else -1]):
            sheet += [masked.frame.image, _drawn(masked)]
    return rows


def _drawn(masked: MaskedFrame) -> Any:
    points = masked.persons.keypoints
    return masked.painted if points is None else overlay(masked.painted, points)


def bench_quality(
    out: Path,
    config: Experiment,
    *,
    videos: int = 22,
    seconds: float = 5.0,
    seed: int = 3,
    clips: Path | None = None,
) -> dict[str, Any]:
    """Run the benchmark and write the report into ``out``; returns the content of quality.json.

    ``clips``: a folder with real videos of one person each.
    """
    footage_videos = make_footage(out / "footage", videos=videos, seconds=seconds, seed=seed, fps=config.mask.fps)
    rows, frames, report = footage(footage_videos, config)
    sheet: list[Any] = []
    about = {"videos": videos, "seconds": seconds, "seed": seed, "detector": config.mask.detector}
    report = {"about": {**about, "segmenter": config.mask.segmenter, "estimator": config.pose.estimator}, **report}
    report["by_height"] = rates(rows, [r.height for r in rows], _HEIGHTS)
    report["by_sight"] = rates(rows, [r.visibility for r in rows], _VISIBILITIES)
    if clips is not None:
        each = real(clips, config, sheet)
        count = sum(r["frames"] for r in each)
        total = {k: round(sum(r[k] * r["frames"] for r in each) / count, 4) for k in ("detected", "shown")}
        report["real"] = {"frames": count, **total, "videos": each}
    report["goals"] = goals(report)
    write_atomically(out / "quality.json", json.dumps(report, indent=1) + "\n")
    plot(rows, frames, report, out / "quality.png")
    if sheet:
        video.save_image(out / "sheet.jpg", video.contact_sheet(sheet, 8))
    write_atomically(out / "quality.html", _page(report, out))
    return report


def goals(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each goal with the value reached."""
    reached = {k: report["figures"].get(k) for k in GOALS}
    reached["real_detected"] = report["real"]["detected"] if "real" in report else None
    return {
        k: {"goal": g, "reached": reached[k], "met": reached[k] is not None and reached[k] >= g}
        for k, g in GOALS.items()
    }


def _page(report: dict[str, Any], out: Path) -> str:
    def table(values: dict[str, Any]) -> str:
        return "<table>" + "".join(f"<tr><td>{k}</td><td>{v}</td></tr>" for k, v in values.items()) + "</table>"

    def image(name: str) -> str:
        if not (out / name).is_file():
            return ""
        kind = "png" if name.endswith("png") else "jpeg"
        data = base64.b64encode((out / name).read_bytes()).decode()
        return f'<img src="data:image/{kind};base64,{data}" alt="{name}">'

    met = {
        k: f"{v['reached']} (goal {v['goal']}: {'met' if v['met'] else 'not met'})" for k, v in report["goals"].items()
    }
    tables = "".join(f"<h2>{k}</h2>{table(report[k])}" for k in ("figures", "masked_skeletons"))
    style = "body{font:15px sans-serif;margin:2em auto;max-width:70em}td{padding:.1em 1em}img{max-width:100%}"
    return (
        f"<!doctype html><meta charset=utf-8><title>Perception</title><style>{style}</style><h1>Perception</h1>"
        f"<h2>goals</h2>{table(met)}{tables}{image('quality.png')}{image('sheet.jpg')}\n"
    )
