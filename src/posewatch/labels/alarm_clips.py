"""What of a judged alarm record becomes labelled clips: some of the windows that the model was asked about.

The clips of one camera and day have one ``video_id``, so that a split by source video keeps each camera's day on one
side. Their start is the time of day in UTC; of a recording, the second in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posewatch import alarms
from posewatch.datasets.layouts import FLOW
from posewatch.names import known_as, readable
from posewatch.records import Clip, clip_id, video_id
from posewatch.units import PERSON, SCENE

if TYPE_CHECKING:
    from posewatch.alarms import AlarmRecord
    from posewatch.config import Experiment

MOST = 3
"""Clips of one alarm that was judged false; of a true one there is one."""
_JOINTS = 17
_TOLERANCE_S = 0.05


class Unusable(Exception):
    """A record of which no clip can be made for this experiment; says why, to be counted."""


@dataclass(frozen=True)
class AlarmClip:
    """A clip of a record: ``array`` is its window in windows.npz, which begins ``start_s`` seconds into the source."""

    clip: Clip
    array: str
    start_s: float


def label_of(verdict: str, record: AlarmRecord, config: Experiment) -> str | None:
    """The class that a verdict gives to the clips of a record; None where it says nothing of any (unsure).

    True: the class that raised the alarm. False, and no person: the class ``labels.default``, because that is what the
    recogniser should have answered, a dog or a coat taken for a person included; a clip marked as bad would teach
    nothing, and the alarm would come again. Raises Unusable for a class that the experiment does not have, and for an
    alarm that does not come from the recogniser alone, such as the long lie.
    """
    if record.about.get("rule"):
        raise Unusable("the rule of its alarm is not learned")
    if verdict == "unsure":
        return None
    if verdict != "true":
        return config.labels.default
    label = known_as(str(record.about.get("label", "")), config.labels.classes)
    if label is None:
        raise Unusable("its class is none of the experiment's")
    return label


def video_of(record: AlarmRecord) -> str:
    """The id that the clips of a camera's day share."""
    return video_id(hashlib.sha256(record.prefix.rpartition("/")[0].encode()).hexdigest())


def name_of(record: AlarmRecord) -> str:
    """What people read: the camera and the day; the recording's name."""
    camera, day = readable(str(record.about["camera"])), record.prefix.split("/")[2]
    return camera if day == alarms.UNDATED else f"{camera} {day}"


def choose(record: AlarmRecord, verdict: str, config: Experiment) -> list[dict[str, Any]]:
    """The rows of alarm.json whose windows become clips: those in which the model was surest, apart in time.

    Of an alarm judged true one, because nobody said which other part of it shows what happened. Of one judged false up
    to ``MOST``: all of it was said to be normal. Of a near miss or a sample the one that it is about. Raises Unusable
    for a record of another unit, of windows of another length or frame rate, and one without skeletons.
    """
    about = record.about
    if about.get("unit", SCENE) != config.mask.unit:
        raise Unusable("it is of the other unit (mask.unit)")
    watch = about["watch"]
    same = abs(watch["window_s"] - config.split.length_s) <= _TOLERANCE_S and watch["fps"] == config.mask.fps
    if not same:
        raise Unusable("its windows are not as long as the clips (split.length_s), or of another mask.fps")
    end_s = about["end_s"] if about["end_s"] is not None else float("inf")
    known = [row for row in about["windows"] if row.get("keypoints")]
    if about["kind"] == "alarm":
        known = [row for row in known if row["end_s"] > about["start_s"] and row["start_s"] < end_s]
        most = 1 if verdict == "true" else MOST
        known = sorted(known, key=lambda row: -row["p"])
        known = [row for i, row in enumerate(known) if not i or row["p"] >= watch["off"]]
    else:
        known = [row for row in known if row["start_s"] >= about["start_s"] - 1e-3 and row["end_s"] <= end_s + 1e-3]
        most = 1
    if not known:
        raise Unusable("it has no skeletons")
    chosen: list[dict[str, Any]] = []
    for row in known:
        if len(chosen) < most and all(_apart(row, other) for other in chosen):
            chosen.append(row)
    return chosen


def _apart(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["end_s"] <= other["start_s"] + 1e-3 or one["start_s"] >= other["end_s"] - 1e-3)


def clip_of(record: AlarmRecord, row: dict[str, Any], keypoints: NDArray[np.float32]) -> AlarmClip:
    """The clip of one window; ``keypoints`` (M, T, V, 3) are its own. Raises Unusable for another joint layout."""
    if keypoints.ndim != 4 or keypoints.shape[2:] not in ((_JOINTS, 3), (_JOINTS + FLOW, 3)):
        raise Unusable("its skeletons are of another joint layout")
    about = record.about
    start_s, length_s = row["start_s"], row["end_s"] - row["start_s"]
    at_s = start_s
    if about.get("began"):
        began = datetime.fromisoformat(about["began"])
        midnight = began.replace(hour=0, minute=0, second=0, microsecond=0)
        at_s = (began - midnight).total_seconds() + start_s - about["start_s"]
    # an alarm just after midnight may have a window that began before it
    at_s, length_s = round(max(0.0, at_s), 3), round(length_s, 3)
    video, person = video_of(record), about["person"] if about.get("unit") == PERSON else None
    keypoints = keypoints[:, :, :_JOINTS]
    width, height = _size(about.get("clip"), keypoints)
    seen = (keypoints[..., 2] > 0).any(2).sum(0)
    clip = Clip(
        clip_id(video, at_s, length_s, person), video, at_s, length_s, about["watch"]["fps"], keypoints.shape[1],
        width, height, round(float(seen.mean()), 3), person,
    )  # fmt: skip
    return AlarmClip(clip, row["keypoints"], start_s)


def _size(clip: dict[str, Any] | None, keypoints: NDArray[np.float32]) -> tuple[int, int]:
    """Width and height of the frame; of a record without pictures, as far as anybody was seen."""
    if clip:
        return int(clip["width"]), int(clip["height"])
    width, height = (int(np.ceil(max(1.0, float(keypoints[..., axis].max())))) for axis in (0, 1))
    return width, height


def watched(records: Sequence[AlarmRecord]) -> list[tuple[float, float]]:
    """The stretches of time (seconds since 1970) in which the cameras of records were surely watched, without overlap:
    from the start of the process that made a record, in its day, to the record's end. None of recordings."""
    spans: list[tuple[float, float]] = []
    for record in records:
        about = record.about
        if not about.get("began"):
            continue
        began = datetime.fromisoformat(about["began"])
        midnight = began.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        first = max(midnight, began.timestamp() - about["start_s"])
        last = began.timestamp() + max(0.0, (about["end_s"] or about["start_s"]) - about["start_s"])
        spans.append((first, last))
    joined: list[tuple[float, float]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined
