"""What the ways to look at less find and cost: in a video, and in one room with people and without."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import numpy as np

from posewatch.config import Experiment
from posewatch.errors import InputError
from posewatch.inference.predictor import Predictor
from posewatch.perception.ports import PoseEstimator
from posewatch.watch.config import WatchConfig
from posewatch.watch.payload import RAISED
from posewatch.watch.sinks.sink import Sink, SinkContext
from posewatch.watch.sources import FileSource
from posewatch.watch.watcher import Watcher

WAYS: dict[str, dict[str, Any]] = {
    "every frame": {},
    "--still-s 1": {"still_s": 1.0},
    "--pose-every 2": {"pose_every": 2},
    "--large-s 1": {"large_s": 1.0},
    "still and large": {"still_s": 1.0, "large_s": 1.0},
    "all three": {"still_s": 1.0, "pose_every": 2, "large_s": 1.0},
}
"""Ways to look at less, by their options: the settings of each."""
ROOM_S = 30
"""Length of the videos of a room, in seconds."""
APART_S, NOISE, FADE = 3.5, 4.0, 0.05
"""Of every so many seconds a frame makes the empty room; its noise (standard deviation) and how much darker each frame
is, both in levels of 255: a camera that sees nothing move never sends the same picture twice."""
SURE = 0.4
"""Score from which a person is one: what stands in a room may look a little like one."""


class Way(NamedTuple):
    """When alarms were raised, in seconds; processor seconds of watching, video seconds watched, and the share of the
    frames that the pose network looked at."""

    raised_s: tuple[float, ...]
    cpu_s: float
    seconds: float
    looked: float


class _Raised(Sink):
    """Keeps when alarms were raised, in seconds."""

    def __init__(self) -> None:
        self.raised_s: list[float] = []

    @classmethod
    def open(cls, context: SinkContext) -> _Raised:
        return cls()

    def alarm(self, message: dict[str, Any]) -> None:
        if message["event"] == RAISED:
            self.raised_s.append(message["raised_s"])


def each_way(
    path: Path, predictor: Predictor, estimator: PoseEstimator, config: Experiment, settings: WatchConfig
) -> dict[str, Way]:
    """The video watched in each of ``WAYS``, without writing anything."""
    ways = {}
    for name, options in WAYS.items():
        source = FileSource(path, config.mask.fps, config.mask.max_side)
        began = time.process_time()
        watcher = Watcher(source, predictor, estimator, config.pose, replace(settings, **options))
        sink = _Raised()
        watcher.run([sink], Event())
        cpu, looked = time.process_time() - began, watcher.stats.looked / max(1, watcher.stats.frames)
        ways[name] = Way(tuple(sink.raised_s), cpu, source.counters.read / config.mask.fps, looked)
    return ways


def rooms(path: Path, folder: Path, config: Experiment, estimator: PoseEstimator, seed: int = 0) -> dict[str, Path]:
    """The first ``ROOM_S`` seconds of a still camera's video, and the same room with nobody in it, written to
    ``folder``: the median of the frames in which nobody is found for sure, with sensor noise and fading light.

    Raises InputError for a video in which somebody is seen all the time.
    """
    from posewatch import video

    fps = config.mask.fps
    count, step = round(ROOM_S * fps), round(APART_S * fps)
    busy, still = [], []
    for i, frame in enumerate(video.read(path, fps, config.mask.max_side)):
        if i < count:
            busy.append(frame.image)
        if i % step == 0 and not (estimator.estimate([frame.image])[0].scores >= SURE).any():
            still.append(frame.image)
    if not still:
        raise InputError(
            f"{path}: somebody is seen whenever it is looked at (every {APART_S:g} s): a room needs a video with "
            "moments without people"
        )
    background = np.median(np.stack(still), axis=0)
    rng = np.random.default_rng(seed)

    def empty(t: int) -> Any:
        return np.clip(background + rng.normal(0, NOISE, background.shape) - FADE * t, 0, 255).astype(np.uint8)

    shown: dict[str, Iterable[Any]] = {"empty room": map(empty, range(count)), "busy room": busy}
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, images in shown.items():
        written[name] = folder / f"{name.replace(' ', '-')}.mp4"
        with video.Writer(written[name], fps, (background.shape[1], background.shape[0])) as out:
            for image in images:
                out.write(image)
    return written
