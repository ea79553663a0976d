"""When the pose network looks: seldom at still scenes, at once at what moves, and nobody is lost by it."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles import FixedNetwork
from watch.conftest import Posture, detections, person

from posewatch.cli.watch import Alarms
from posewatch.config import PoseConfig, load
from posewatch.events.alarms import Hysteresis
from posewatch.records import Detections
from posewatch.watch.config import WatchConfig
from posewatch.watch.looks import between
from posewatch.watch.sinks.sink import SinkContext
from posewatch.watch.sinks.table import open_sinks
from posewatch.watch.sources import Counters, Frame
from posewatch.watch.stats import WatchStats
from posewatch.watch.tracked_people import Observation
from posewatch.watch.watcher import Watcher

CONFIG = WatchConfig(window_s=2.0, stride_s=0.5, smooth=2, hysteresis=Hysteresis(0.5, 0.4), unit="person", still_s=1.0)
Picture = Callable[[int], np.ndarray]
Script = Callable[[int], list[np.ndarray]]
HEIGHT, WIDTH = 120, 240


class Room:
    """A source of noisy pictures, whose people are black in the picture; the network sees them where they are.

    ``looks`` are the frames that it looked at.
    """

    def __init__(self, frames: int, people: Script = lambda t: [], light: Picture | None = None) -> None:
        self.name, self.live, self.counters = "door", False, Counters()
        self.looks: list[int] = []
        self._frames, self._people, self._light, self._at = frames, people, light, 0
        self._rng = np.random.default_rng(0)
        self._room = self._rng.integers(60, 180, (HEIGHT // 20, WIDTH // 20)).repeat(20, 0).repeat(20, 1)
        self.network = FixedNetwork(self._find)

    def _find(self, image: np.ndarray) -> Detections:
        self.looks.append(self._at)
        return detections(self._people(self._at))

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        for t in range(self._frames):
            image = self._room + self._rng.normal(0, 4, (HEIGHT, WIDTH))
            if self._light is not None:
                image = image + self._light(t)
            for keypoints in self._people(t):
                (x1, y1), (x2, y2) = keypoints[:, :2].min(0).astype(int), keypoints[:, :2].max(0).astype(int)
                image[max(0, y1) : y2, max(0, x1) : x2] = 20
            self._at = t
            yield Frame(t, t / 10, None, np.clip(image, 0, 255).astype(np.uint8)[..., None].repeat(3, 2))


def _watch(room: Room, out: Path, config: WatchConfig = CONFIG) -> tuple[WatchStats, list[dict[str, Any]]]:
    watcher, stream = Watcher(room, Posture(unit=config.unit), room.network, PoseConfig(), config), io.StringIO()
    context = SinkContext(room, watcher.stats, watcher.label, config, out, stream=stream, video=False)
    with open_sinks(context) as sinks:
        stats = watcher.run(sinks, threading.Event())
    return stats, [json.loads(line) for line in stream.getvalue().splitlines()]


def _small(centre: tuple[float, float]) -> np.ndarray:
    """Somebody 18 pixels tall: 48 of a picture that is 640 wide."""
    keypoints = person((0, 0), False)
    return np.concatenate([keypoints[:, :2] * 0.3 + centre, keypoints[:, 2:]], 1).astype(np.float32)


def test_a_still_scene_costs_a_look_a_second(tmp_path: Path) -> None:
    dusk = Room(300, light=lambda t: np.full((1, 1), -t / 10))  # a grey level a second, and noise
    stats, _ = _watch(dusk, tmp_path)
    assert (stats.frames, stats.looked) == (300, len(dusk.looks))
    assert stats.looked <= 30 + 25  # and every frame of the first two seconds
    assert max(np.diff(dusk.looks)) == 10
    always, _ = _watch(Room(30), tmp_path / "always", replace(CONFIG, still_s=0.0))
    assert always.looked == 30


def test_somebody_small_who_enters_is_looked_at_at_once(tmp_path: Path) -> None:
    enters = Room(200, lambda t: [_small((8 + 3 * (t - 104), 70))] if t >= 104 else [])
    _watch(enters, tmp_path)
    looks = [t for t in enters.looks if t >= 104]
    assert looks[0] <= 106
    assert looks[:50] == list(range(looks[0], looks[0] + 50))  # and as long as they walk
    assert sum(t < 104 for t in enters.looks) < 40


@pytest.mark.parametrize("every", [1, 2])
def test_who_fell_and_lies_still_stays_and_the_long_lie_is_told(tmp_path: Path, every: int) -> None:
    def falls(t: int) -> list[np.ndarray]:
        return [person((60 + min(t, 40), 70), t >= 40)]

    config = replace(CONFIG, long_lie_s=10.0, hold_s=1.0, hysteresis=Hysteresis(0.5, 0.4, merge_s=1.0))
    told = []
    for name, chosen in (("all", config), ("still", replace(config, still_s=1.0, pose_every=every))):
        room = Room(300, falls)
        _, messages = _watch(room, tmp_path / name, chosen)
        told.append([(m["event"], m.get("rule"), m["person"], m["raised_s"]) for m in messages])
    fall, lie = [(kind, rule, who) for kind, rule, who, _ in told[1] if kind == "alarm"]
    assert (fall, lie) == (("alarm", None, 1), ("alarm", "long_lie", 1))
    assert [m[:3] for m in told[1]] == [m[:3] for m in told[0]]
    np.testing.assert_allclose([m[3] for m in told[1]], [m[3] for m in told[0]], atol=0.5)
    assert sum(t >= 60 for t in room.looks) < 50


def test_who_is_not_found_where_nothing_moved_is_looked_for(tmp_path: Path) -> None:
    class Overlooks(Room):
        def _find(self, image: np.ndarray) -> Detections:
            found = super()._find(image)
            return Detections.none(17) if 100 <= self._at < 120 else found

    room = Overlooks(200, lambda t: [person((100, 70), False)])
    _watch(room, tmp_path)
    first = next(t for t in room.looks if t >= 100)
    assert set(range(first, 120)) <= set(room.looks)
    assert sum(t >= 130 for t in room.looks) <= 12


def test_a_flickering_lamp_does_not_switch_the_gate_off_for_good(tmp_path: Path) -> None:
    on = np.random.default_rng(1).random(1500) < 0.5
    lamp = np.zeros((HEIGHT, WIDTH))
    lamp[10:40, 150:200] = 60

    flickers = Room(900, lambda t: [person((40 + t % 30, 80), False)] if t >= 800 else [], lambda t: lamp * on[t])
    _watch(flickers, tmp_path)
    assert sum(600 <= t < 800 for t in flickers.looks) <= 30
    assert set(range(802, 900)) <= set(flickers.looks)  # the rest of the picture is watched as before


def test_a_person_in_front_of_a_flickering_lamp_is_looked_at(tmp_path: Path) -> None:
    on = np.random.default_rng(1).random(900) < 0.5
    everywhere = np.full((HEIGHT, WIDTH), 40.0)
    room = Room(
        560, lambda t: [person((40 + (t - 460), 70), False)] if t >= 460 else [], lambda t: everywhere * on[t]
    )  # fmt: skip
    _watch(room, tmp_path)
    found = next(t for t in room.looks if t >= 460)
    assert found < 470
    assert sum(found <= t < 560 for t in room.looks) > 0.9 * (560 - found)


def test_frames_between_two_looks_lie_between(tmp_path: Path) -> None:
    walks = Room(60, lambda t: [person((60 + 2 * t, 70), False)])
    watcher = Watcher(walks, Posture(unit="person"), walks.network, PoseConfig(), replace(CONFIG, pose_every=2))
    seen: list[tuple[int, float]] = []

    class Sees:
        def frame(self, frame: Frame, people: Observation, state: Any) -> None:
            seen.append((frame.index, float(people.detections.boxes[0, [0, 2]].mean())))

        def alarm(self, message: dict[str, Any]) -> None: ...
        def window(self, window: Any) -> None: ...

    stats = watcher.run([Sees()], threading.Event())  # type: ignore[list-item]
    assert (stats.frames, stats.looked) == (60, 30)
    assert [index for index, _ in seen] == list(range(60))
    np.testing.assert_allclose([x for _, x in seen[:-1]], [60 + 2 * t for t in range(59)], atol=0.51)


@pytest.mark.parametrize("every", [1, 2])
def test_a_glance_knows_who_was_just_seen_and_a_whole_look_comes_every_second(tmp_path: Path, every: int) -> None:
    def walks(t: int) -> list[np.ndarray]:
        return [person((60 + 2 * t, 70), False)] * (not 30 <= t < 34)

    room, glances = Room(60, walks), {}

    class Glances(FixedNetwork):
        def glance(self, image: np.ndarray, people: Detections) -> Detections:
            glances[room._at] = people.boxes[:, [0, 2]].mean()
            return room._find(image)

    room.network = Glances(room._find)
    watcher = Watcher(room, Posture(), room.network, PoseConfig(), replace(CONFIG, unit="scene", still_s=0.0))
    watcher.run([], threading.Event())
    assert not glances
    room = Room(60, walks)
    room.network = Glances(room._find)
    config = replace(CONFIG, unit="scene", still_s=0.0, large_s=1.0, pose_every=every)
    watcher = Watcher(room, Posture(), room.network, PoseConfig(hold=3), config)
    watcher.run([], threading.Event())
    whole = sorted(set(room.looks) - set(glances))
    assert set(glances) <= set(room.looks)
    assert 25 <= len(glances) * every <= 60 - 12
    assert max(np.diff(whole)) <= 10  # a second
    assert not set(glances) & set(range(30 + every, 34 + 3 * every))  # somebody is lost, or was just found
    looks = dict(zip(room.looks[1:], room.looks, strict=False))
    assert {t: x for t, x in glances.items() if not 30 <= t < 40} == pytest.approx(
        {t: 60 + 2 * looks[t] for t in glances if not 30 <= t < 40}, abs=1
    )


def test_a_camera_is_not_looked_at_while_nothing_moves_and_a_file_frame_by_frame() -> None:
    configs = [Alarms().config(load("default"), 0.5, "", live) for live in (True, False)]
    assert [(config.still_s, config.large_s) for config in configs] == [(1.0, 1.0), (0.0, 0.0)]
    chosen = Alarms(still_s=0.0, large_s=0.5).config(load("default"), 0.5, "", True)
    assert [chosen.still_s, chosen.large_s, configs[0].pose_every] == [0.0, 0.5, 1]


def test_between_has_who_is_in_both() -> None:
    a, b = (detections([person((x, 60), False), person((x + 100, 60), False)]) for x in (100, 110))
    middle = between(Observation(a, (3, 4), (1, 2)), Observation(b, (4, 3), (2, 1)), 0.5)
    assert (middle.ids, middle.persons) == ((3, 4), (1, 2))
    assert middle.detections.keypoints is not None
    assert between(Observation(a, (3, 4), (1, 2)), Observation.nobody(), 0.5).ids == ()
