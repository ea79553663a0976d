"""An estimator that sees a falling person, and a model that tells lying from standing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from doubles import FixedNetwork
from pictures import picture

from posewatch import video
from posewatch.inference.predictor import Predictor
from posewatch.records import Detections, Prediction
from posewatch.units import unit_entry
from posewatch.watch.sources import Counters, Frame


def person(centre: tuple[float, float], lying: bool) -> np.ndarray:
    """Keypoints (17, 3) of somebody 60 pixels tall, or as long."""
    along, across = np.linspace(-30, 30, 17), np.tile([-6.0, 6.0], 9)[:17]
    x, y = (along, across) if lying else (across, along)
    return np.stack([centre[0] + x, centre[1] + y, np.full(17, 0.9)], 1).astype(np.float32)


def detections(people: list[np.ndarray]) -> Detections:
    if not people:
        return Detections.none(17)
    keypoints = np.stack(people)
    boxes = np.concatenate([keypoints[..., :2].min(1) - 4, keypoints[..., :2].max(1) + 4], 1)
    return Detections(boxes.astype(np.float32), np.full(len(people), 0.9, np.float32), keypoints)


class Falls(FixedNetwork):
    """Sees one person, frame after frame, who lies from frame ``at`` to ``until``."""

    def __init__(self, at: int, until: int = 10**9) -> None:
        self.calls = 0

        def find(image: np.ndarray) -> Detections:
            lying = at <= self.calls < until
            self.calls += 1
            return detections([person((80 + self.calls % 3, 60), lying)])

        super().__init__(find)


class Several(FixedNetwork):
    """Sees in frame t, counted from 0, the people whose keypoints ``script(t)`` gives."""

    def __init__(self, script: Callable[[int], list[np.ndarray]]) -> None:
        self.calls = 0

        def find(image: np.ndarray) -> Detections:
            self.calls += 1
            return detections(script(self.calls - 1))

        super().__init__(find)


class Grey:
    """A source of ``frames`` grey frames at 10 per second, as a file or a camera."""

    def __init__(self, frames: int, size: tuple[int, int] = (640, 120), live: bool = False) -> None:
        self.name, self.live, self.counters, self._frames, self._size = "door", live, Counters(), frames, size

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        began = datetime(2026, 3, 1, 9, tzinfo=UTC)
        for i in range(self._frames):
            if not stop.is_set():
                wall = began + timedelta(seconds=i / 10) if self.live else None
                yield Frame(i, i / 10, wall, np.full((self._size[1], self._size[0], 3), 90, np.uint8))


class Posture(Predictor):
    """A predictor whose probability is the share of a clip's frames in which a person is wider than tall."""

    labels = ("normal", "abnormal")

    def __init__(self, people: int = 1, frames: int = 10, unit: str = "scene") -> None:
        self.shape = (people, frames, 17, 3)
        self.metadata = {"positive": "abnormal", "layout": "coco17", "threshold": "0.5", "version": "7"}
        self.metadata |= unit_entry(unit)
        self.asked: list[int] = []
        """How many windows each question had."""

    def predict(self, keypoints: np.ndarray) -> Prediction:
        self.asked.append(len(keypoints))
        wide = np.ptp(keypoints[..., 0], axis=3) > np.ptp(keypoints[..., 1], axis=3)
        p = wide.max(1).mean(1).astype(np.float32)
        return Prediction(np.stack([1 - p, p], 1), self.labels, np.zeros((len(p), 1), np.float32))

    def close(self) -> None: ...


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """Writes a video of so many seconds at 10 frames per second."""

    def write(name: str = "door.mp4", seconds: float = 9.0) -> Path:
        with video.Writer(tmp_path / name, 10, (160, 120)) as out:
            for i in range(round(seconds * 10)):
                out.write(picture(i % 20 / 10, 160, 120))
        return tmp_path / name

    return write
