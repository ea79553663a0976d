"""Alarm records, written as the watcher writes them: through its spool into a store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from skeletons import walk

from posewatch import alarms
from posewatch.alarms import AlarmRecord
from posewatch.datasets.layouts import FLOW
from posewatch.store import ObjectStore
from posewatch.watch.records.spool import OpenRecord, Spool
from posewatch.watch.records.upload import Records, RecordSettings

BEGAN = datetime(2026, 3, 1, 9, tzinfo=UTC)
MODEL = {"name": "abnormal", "version": "3", "release": "r1"}


def stored(
    store: ObjectStore, work: Path, number: str, *, camera: str = "door", began: datetime | None = BEGAN,
    start_s: float = 60.0, long_s: float = 6.0, p: tuple[float, ...] | None = None, kind: str = "alarm",
    person: int | None = 2, window_s: float = 3.0, pictures: bool = False, waving: bool = False, seed: int = 0,
    flow: bool = False,
    **more: Any,
) -> AlarmRecord:  # fmt: skip
    """A record whose alarm lasts ``long_s`` from ``start_s`` on, with windows every 1.5 s from a window before it.

    ``p`` are their probabilities, by default high within the alarm. ``flow``: the model wanted it. What else is in
    alarm.json: ``more``.
    """
    fps = 10.0
    count = len(p) if p else int(long_s / 1.5) + 3
    first = start_s - window_s if kind == "alarm" else start_s
    watch = {"on": 0.7, "off": 0.5, "min_s": 0.0, "merge_s": 2.0, "smooth": 2, "window_s": window_s, "fps": fps}
    about: dict[str, Any] = {
        "kind": kind, "id": number, "camera": camera, "unit": "scene" if person is None else "person",
        "person": person, "persons": [person or 1], "began": began and began.isoformat(), "label": "abnormal",
        "start_s": start_s, "raised_s": start_s + 1.5, "end_s": start_s + long_s, "probability": 0.9, "model": MODEL,
        "watch": {**watch, "stride_s": 0.5}, "ended": began and (began + timedelta(seconds=long_s)).isoformat(),
    } | more  # fmt: skip
    spool = Spool(work / "records")
    record = OpenRecord(spool.folder / number, about)
    for i in range(count):
        begin = first + 1.5 * i
        high = start_s <= begin + window_s / 2 < start_s + long_s
        likely = p[i] if p else (0.9 - 0.01 * i if high else 0.1)
        row = {"start_s": begin, "end_s": begin + window_s, "p": likely, "smoothed": likely}
        keypoints = walk(1000 * seed + i, waving, frames=round(window_s * fps))
        columns = np.full((*keypoints.shape[:2], FLOW, 3), 1.0 + i, np.float32)
        record.window(row, np.concatenate([keypoints, columns], 2) if flow else keypoints)
    if pictures:
        for i in range(round((long_s + 10) * fps)):
            image = np.full((48, 64, 3), i % 200 + 20, np.uint8)
            record.frame(i, {"time_s": start_s - 5 + i / fps, "time": None, "people": []}, image, None)
    record.close()
    records = Records(spool, lambda: store, RecordSettings(0, 0), camera)
    assert records.drain(20) == 0
    records.close()
    return alarms.by_id(store, number)
