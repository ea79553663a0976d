"""Alarm records as the watcher's recorder makes them, and more of them from one of these."""

from __future__ import annotations

import io
import json
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from watch.conftest import Grey, Posture, Several, person

from posewatch import alarms
from posewatch.artifact import Job, publish
from posewatch.config import PoseConfig
from posewatch.events.alarms import Hysteresis
from posewatch.stack.process import wait_until
from posewatch.store import ObjectStore
from posewatch.watch.config import WatchConfig
from posewatch.watch.records.spool import Spool
from posewatch.watch.records.upload import Records, RecordSettings
from posewatch.watch.sinks.sink import SinkContext
from posewatch.watch.sinks.table import open_sinks
from posewatch.watch.sources import Frame
from posewatch.watch.watcher import Watcher

CONFIG = WatchConfig(window_s=2.0, stride_s=0.5, smooth=2, hysteresis=Hysteresis(0.5, 0.4), unit="person")
SIZE = (320, 180)


def people(t: int) -> list[np.ndarray]:
    """Somebody who walks and falls at second 3, and somebody who stands."""
    return [person((60 + min(t, 30), 90), 30 <= t < 60), person((240, 90), False)]


class Yard(Grey):
    """A camera that sees them, as light figures on a dark floor."""

    def __init__(self, name: str, frames: int = 130) -> None:
        super().__init__(frames, SIZE, live=True)
        self.name = name

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        for frame in super().frames(stop):
            image = np.full_like(frame.image, 70)
            for i, one in enumerate(people(frame.index)):
                (left, top), (right, bottom) = one[:, :2].min(0).astype(int), one[:, :2].max(0).astype(int)
                image[top:bottom, left:right] = ((220, 190, 150), (150, 190, 220))[i]
            yield Frame(frame.index, frame.time_s, frame.wall, image)


def record(store: ObjectStore, folder: Path, camera: str = "yard", raw: bool = False) -> alarms.AlarmRecord:
    """Watch ``camera`` until its alarm is a record in ``store``."""
    source = Yard(camera)
    watcher = Watcher(source, Posture(unit="person"), Several(people), PoseConfig(), CONFIG)
    settings = RecordSettings(near_misses=0, samples=0, raw=raw)
    records = Records(Spool(folder / camera.encode().hex() / "records"), lambda: store, settings, camera)
    context = SinkContext(
        source, watcher.stats, watcher.label, CONFIG, folder, False, records=records, stream=io.StringIO()
    )
    try:
        with open_sinks(context) as sinks:
            watcher.run(sinks, threading.Event())
        assert wait_until(lambda: not records.waiting, 20)
    finally:
        records.close()
    return next(alarms.records(store, camera=camera))


def another(
    of: alarms.AlarmRecord, number: str, minutes: float, *, leave: tuple[str, ...] = (), **changes: Any
) -> alarms.AlarmRecord:
    """A record like ``of`` that began some ``minutes`` later, with these ``changes``, without the files ``leave``."""
    store = of.artifact.store
    began = datetime.fromisoformat(of.about["began"]) + timedelta(minutes=minutes)
    about = {**of.about, "id": number, "began": began.isoformat(timespec="milliseconds"), **changes}
    if alarms.MASKED in leave:
        about["clip"] = None
    prefix = alarms.key_of(about["camera"], began, number)
    with tempfile.TemporaryDirectory() as temp:
        for name in of.artifact.files:
            if name not in (*leave, "lineage.json"):
                of.artifact.fetch(name, Path(temp))
        (Path(temp) / alarms.ABOUT).write_text(json.dumps(about))
        publish(store, Job(alarms.ROOT, prefix.split("/")[1], {}, fixed_prefix=prefix), Path(temp))
    return alarms.read(store, prefix)
