"""An alarm record as a browser draws it: boxes and joints of each frame of its clip, and the curve of its score.

Where a record has no pictures, the skeletons that the model was asked about stand for them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch import alarms
from posewatch.alarms import AlarmRecord
from posewatch.datasets.layouts import FLOW

GAP_S = 2.0
"""Pictures further apart than this follow each other in a clip (``watch.records.upload``)."""
LIMBED = 17
"""Joints of COCO: of other layouts only the points are drawn."""
FEWEST = 3
"""Joints that a person has at least."""


def picture(record: AlarmRecord) -> dict[str, Any]:
    """What a browser draws of a record:

        w, h, fps     of its clip
        frames        per frame, per person x, y, score (0 to 100) of each joint, one after the other
        boxes         per frame, per person its number, x1, y1, x2, y2
        times         per frame its second of the source
        about         numbers of the persons whom the alarm is about; empty: everybody
        limbs         whether the joints are those of COCO
        curve         per window its end, the model's probability and the smoothed one; on, off: the thresholds
        start_s, raised_s, end_s, label, rule, reason, times_raised

    Raises NotFound when the record, or a file of it, was deleted meanwhile.
    """
    about = record.about
    watch, clip = about.get("watch") or {}, about.get("clip") or {}
    fps = float(clip.get("fps") or watch.get("fps") or 10.0)
    files = record.artifact.files
    rows = record.artifact.lines(alarms.PEOPLE) if alarms.PEOPLE in files else []
    frames, boxes, times = _seen(rows, fps)
    if not any(frames) and alarms.WINDOWS in files:
        frames, times = _asked(record, fps, times)
        boxes = boxes if len(boxes) == len(frames) else [[] for _ in frames]
    width, height = clip.get("width"), clip.get("height")
    if not width or not height:
        width, height = _extent(frames, boxes)
    person = about.get("person")
    return {
        "w": width, "h": height, "fps": fps, "frames": frames, "boxes": boxes, "times": times,
        "about": [person] if person is not None else list(about.get("persons") or []),
        "limbs": all(len(joints) == 3 * LIMBED for people in frames for joints in people),
        "curve": _curve(about.get("windows") or ()), "on": watch.get("on"), "off": watch.get("off"),
        "start_s": about.get("start_s"), "raised_s": about.get("raised_s"), "end_s": about.get("end_s"),
        "label": str(about.get("label") or ""), "rule": str(about.get("rule") or ""),
        "reason": str(about.get("reason") or ""), "times_raised": int(about.get("times") or 1),
    }  # fmt: skip


def _curve(windows: Iterable[dict[str, Any]]) -> list[list[float]]:
    rows = ([row["end_s"], row.get("p"), row.get("smoothed", row.get("p"))] for row in windows)
    return [row for row in rows if None not in row]


def _seen(rows: list[dict[str, Any]], fps: float) -> tuple[list[Any], list[Any], list[float]]:
    """Joints, boxes and times per frame of the clip, which repeats a picture where one is missing."""
    frames: list[Any] = []
    boxes: list[Any] = []
    times: list[float] = []
    before: int | None = None
    for row in rows:
        missing = 0 if before is None else int(row["index"]) - before - 1
        if frames and 0 < missing < GAP_S * fps:
            frames += frames[-1:] * missing
            boxes += boxes[-1:] * missing
            times += [round(times[-1] + (i + 1) / fps, 3) for i in range(missing)]
        before = int(row["index"])
        people = row.get("people") or ()
        frames.append([_joints(np.asarray(one["keypoints"])) for one in people if one.get("keypoints")])
        boxes.append([[one["id"], *(round(float(v)) for v in one["box"])] for one in people])
        times.append(float(row["time_s"]))
    return frames, boxes, times


def _asked(record: AlarmRecord, fps: float, times: list[float]) -> tuple[list[Any], list[float]]:
    """The skeletons (M, T, V, 3) of the windows, one after the other in time; at ``times`` where there are any."""
    windows = [row for row in record.about.get("windows") or () if row.get("keypoints")]
    if not windows:
        return [], []
    begin, end = min(row["start_s"] for row in windows), max(row["end_s"] for row in windows)
    times = times or [round(begin + i / fps, 3) for i in range(max(1, round((end - begin) * fps)))]
    frames: list[Any] = []
    with np.load(io.BytesIO(record.artifact.read(alarms.WINDOWS)), allow_pickle=False) as arrays:
        there = {row["keypoints"]: arrays[row["keypoints"]] for row in windows if row["keypoints"] in arrays}
    for at in times:
        row = next((w for w in reversed(windows) if w["start_s"] <= at < w["end_s"] and w["keypoints"] in there), None)
        if row is None:
            frames.append([])
            continue
        keypoints = there[row["keypoints"]]
        share = (at - row["start_s"]) / (row["end_s"] - row["start_s"])
        people = keypoints[:, min(keypoints.shape[1] - 1, int(share * keypoints.shape[1]))]
        if people.shape[1] == LIMBED + FLOW:
            people = people[:, :LIMBED]
        frames.append([_joints(one) for one in people if np.count_nonzero(one[:, 2] > 0) >= FEWEST])
    return frames, times


def _joints(keypoints: NDArray[Any]) -> list[int]:
    """x, y, score of each joint (V, 3), in whole pixels and hundredths."""
    points = np.nan_to_num(np.asarray(keypoints, np.float64)) * (1, 1, 100)
    return [int(v) for v in np.rint(np.clip(points, -1e5, 1e5)).ravel()]


def _extent(frames: list[Any], boxes: list[Any]) -> tuple[int, int]:
    """A picture that holds all that is drawn."""
    xs = [x for people in frames for joints in people for x in joints[::3]]
    ys = [y for people in frames for joints in people for y in joints[1::3]]
    for people in boxes:
        xs += [x for box in people for x in box[1::2]]
        ys += [y for box in people for y in box[2::2]]
    return max([160, *(x + 10 for x in xs)]), max([120, *(y + 10 for y in ys)])
