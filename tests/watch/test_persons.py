"""Watching with a model of single persons: an alarm for each, numbers that hold, a crowd, the long lie."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from watch.conftest import Grey, Posture, Several, person

from posewatch import video
from posewatch.config import PoseConfig
from posewatch.errors import InputError
from posewatch.events.alarms import Hysteresis
from posewatch.perception.tracking.tracker import Track
from posewatch.records import Prediction
from posewatch.watch import metrics
from posewatch.watch.config import WatchConfig
from posewatch.watch.crowd import Turns
from posewatch.watch.long_lie import posture
from posewatch.watch.persons import Persons
from posewatch.watch.sinks.sink import SinkContext
from posewatch.watch.sinks.table import open_sinks
from posewatch.watch.stats import WatchStats
from posewatch.watch.watcher import Watcher

CONFIG = WatchConfig(window_s=2.0, stride_s=0.5, smooth=2, hysteresis=Hysteresis(0.5, 0.4), unit="person")
Script = Callable[[int], list[np.ndarray]]


def _watch(
    script: Script, frames: int, out: Path, config: WatchConfig = CONFIG, model: Posture | None = None,
    source: Grey | None = None, **options: Any,
) -> tuple[WatchStats, list[dict[str, Any]]]:  # fmt: skip
    """Watch grey frames in which the people of ``script`` are seen; returns the stats and the messages."""
    source, model = source or Grey(frames), model or Posture(unit=config.unit)
    watcher, stream = Watcher(source, model, Several(script), PoseConfig(), config), io.StringIO()
    options = {"video": False, **options}
    context = SinkContext(source, watcher.stats, watcher.label, config, out, stream=stream, **options)
    with open_sinks(context) as sinks:
        stats = watcher.run(sinks, threading.Event())
    return stats, [json.loads(line) for line in stream.getvalue().splitlines()]


def _rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "door.windows.jsonl").read_text().splitlines()]


def _at(x: float, lying: bool) -> np.ndarray:
    return person((x, 60), lying)


class OnFlow(Posture):
    """Answers as ``Posture``, and wants to know how pixels move from the ``after``th question on."""

    def __init__(self, after: int, **about: Any) -> None:
        super().__init__(**about)
        self.after, self.got = after, []  # type: ignore[var-annotated]

    def predict(self, keypoints: np.ndarray) -> Prediction:
        self.got.append(keypoints)
        if len(self.got) == self.after:  # another version comes
            self.shape, self.metadata = (*self.shape[:2], 27, 3), {**self.metadata, "layout": "coco17+flow"}
        return super().predict(keypoints[..., :17, :])


@pytest.mark.parametrize("unit", ["person", "scene"])
def test_a_version_that_wants_flow_gets_it(tmp_path: Path, unit: str) -> None:
    config = replace(CONFIG, unit=unit)
    model = OnFlow(3, unit=unit)
    _, messages = _watch(lambda t: [_at(100 + t % 3, t > 40)], 90, tmp_path, config, model)
    assert [k.shape[-2] for k in model.got] == [17] * 3 + [27] * (len(model.got) - 3)
    measured = [k[..., 17:, 2].mean() for k in model.got[3:]]
    assert measured[0] < 0.3, "few pictures were kept before"
    assert measured[-1] == pytest.approx(0.9, abs=0.06), "all frames but the last"
    assert [message["event"] for message in messages] == ["alarm", "alarm_ended"]


def test_each_person_has_alarms_of_their_own(tmp_path: Path) -> None:
    def two(t: int) -> list[np.ndarray]:
        return [person((100 + t % 3, 200), 40 <= t < 90), person((400 + t % 3, 200), 60 <= t < 120)]

    stats, messages = _watch(two, 150, tmp_path, source=Grey(150, (640, 360)), video=True)
    raised = {m["person"]: m for m in messages if m["event"] == "alarm"}
    ended = {m["person"]: m for m in messages if m["event"] == "alarm_ended"}
    assert set(raised) == set(ended) == {1, 2}
    assert [raised[n]["id"] for n in (1, 2)] == [ended[n]["id"] for n in (1, 2)]
    assert raised[1]["id"] != raised[2]["id"]
    assert 4.0 < raised[1]["raised_s"] <= 6.0 < raised[2]["raised_s"] <= 8.0 < ended[1]["end_s"] < ended[2]["end_s"]
    assert (raised[2]["persons"], stats.alarms, stats.raised_alarms) == ([2], 2, 0)
    assert {row["person"] for row in _rows(tmp_path)} == {1, 2}
    # whom there is an alarm about is outlined, first the left one, then both, then the right one
    shown = [_outlined(frame.image) for frame in video.read(tmp_path / "door.mp4")]
    assert (shown[20], shown[56], shown[80], shown[115]) == ((), (1,), (1, 2), (2,))


def _outlined(image: np.ndarray) -> tuple[int, ...]:
    """The people, of those at 100 and 400 of 640 pixels, with red lines around them."""
    scale = 960 / 640
    found = []
    for number, x in ((1, 100), (2, 400)):
        part = image[int(160 * scale) : int(240 * scale), int((x - 45) * scale) : int((x + 45) * scale)].astype(int)
        red = (part[..., 0] > 170) & (part[..., 1] < 110) & (part[..., 2] < 110)
        found += [number] if red.mean() > 0.02 else []
    return tuple(found)


@pytest.mark.parametrize(("gone", "alarms"), [(20, 1), (80, 2)])
def test_a_person_who_is_lost_for_a_moment_keeps_the_alarm(tmp_path: Path, gone: int, alarms: int) -> None:
    def hidden(t: int) -> list[np.ndarray]:
        return [] if 80 <= t < 80 + gone else [_at(100 + t % 3, t >= 40)]

    _, messages = _watch(hidden, 240, tmp_path)
    raised = [m for m in messages if m["event"] == "alarm"]
    assert [m["person"] for m in raised] == [1, 2][:alarms]
    if alarms == 2:
        assert messages[1]["reason"] == "lost"
        assert messages[1]["end_s"] < 9


def test_a_repeated_alarm_of_a_person_is_the_same_one(tmp_path: Path) -> None:
    def thrice(t: int) -> list[np.ndarray]:
        return [_at(100 + t % 3, 40 <= t < 60 or 100 <= t < 120 or 220 <= t < 240)]

    once = replace(CONFIG, repeat_s=5.0)
    _, messages = _watch(thrice, 330, tmp_path, once)
    assert [m["event"] for m in messages] == ["alarm", "alarm_ended"] * 2
    assert (messages[1]["times"], messages[1]["start_s"]) == (2, messages[0]["start_s"])
    assert 11.0 < messages[1]["end_s"] < 13.0
    assert "times" not in messages[3]
    _, each = _watch(thrice, 330, tmp_path)
    assert [m["event"] for m in each] == ["alarm", "alarm_ended"] * 3


def _crowd(fallen: int, count: int = 30) -> Script:
    def script(t: int) -> list[np.ndarray]:
        return [
            person((60 + 100 * (i % 10) + 3 * np.sin(t / 4 + i), 60 + 110 * (i // 10)), i == fallen and t >= 60)
            for i in range(count)
        ]

    return script


def test_in_a_crowd_work_is_bounded_and_nobody_is_left_out_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, status = Posture(unit="person"), tmp_path / "status.json"
    config = replace(CONFIG, max_persons=8)
    stats, messages = _watch(
        _crowd(17), 160, tmp_path, config, model, Grey(160, (1080, 360)), status=status
    )  # fmt: skip
    (raised,) = (m for m in messages if m["event"] == "alarm")
    assert raised["person"] == 18
    assert max(model.asked) == 8
    rows = _rows(tmp_path)
    assert {row["person"] for row in rows} == set(range(1, 31))
    last: dict[int, float] = {}
    for row in rows:  # in turn: with 30 persons and 7 places beside the alarm, nobody waits for more than five windows
        assert row["end_s"] - last.get(row["person"], 2.0) <= 0.5 * 5 + 1e-6
        last[row["person"]] = row["end_s"]
    figures = json.loads(status.read_text())
    assert (figures["asked"], figures["left_out_now"]) == (8, 22)
    assert figures["left_out"] == stats.left_out == 22 * len(model.asked)
    assert [line for line in caplog.messages if "asked about" in line] == [
        "door: 30 persons, 8 of them are asked about at a time and the others in turn (--max-persons)"
    ]
    text = metrics.text([("door", True, 0, figures)], figures["at"]).decode()
    samples = {s.name: s for family in text_string_to_metric_families(text) for s in family.samples}
    assert samples["posewatch_watch_persons_left_out_total"].value == stats.left_out
    assert all(set(s.labels) <= {"camera", "version", "le"} for s in samples.values())  # none by person


@pytest.mark.parametrize("urgent", [0, 3, 25])
def test_turns_are_fair(urgent: int) -> None:
    turns, persons = Turns(6), list(range(30))
    asked = np.zeros((60, 30), bool)
    for window in range(60):
        chosen = turns.choose(persons, set(range(urgent)))
        assert len(chosen) == len(set(chosen)) == 6
        asked[window, chosen] = True
    for n in persons:
        waits = np.diff(np.flatnonzero(asked[:, n]), prepend=-1)
        assert waits.max() <= 30 / 3
    if urgent:
        assert asked[:, :urgent].mean() > asked[:, urgent:].mean()
    assert Turns(1).choose([4, 5], {5}) == [4]


def test_a_model_of_the_other_unit_is_refused() -> None:
    def watcher(model: str, wanted: str) -> Watcher:
        config = replace(CONFIG, unit=wanted)
        return Watcher(Grey(1), Posture(unit=model), Several(lambda t: []), PoseConfig(), config)

    with pytest.raises(InputError, match=r"the model recognises whole scenes .* set mask.unit=scene"):
        watcher("scene", "person")
    with pytest.raises(InputError, match=r"the model recognises single persons .* set mask.unit=person"):
        watcher("person", "scene")


def test_a_version_of_the_other_unit_ends_the_watch_in_one_line(tmp_path: Path) -> None:
    model = Posture(unit="person")

    def rolled(t: int) -> list[np.ndarray]:
        if t == 30:
            model.metadata.pop("unit")
        return [_at(100, False)]

    with pytest.raises(InputError, match="version 7 of the model recognises whole scenes"):
        _watch(rolled, 60, tmp_path, model=model)


def _track(number: int, x: float, velocity: float = 0.0) -> Track:
    box = np.array([x - 20, 40, x + 20, 120], np.float32)
    return Track(number, box, None, np.array([velocity, 0], np.float32))


def test_numbers_hold_when_tracks_do_not() -> None:
    persons = Persons(hold=20)
    assert persons.update(0, [_track(0, 100), _track(1, 400, velocity=10)]) == (1, 2)
    assert persons.update(10, [_track(7, 110), _track(8, 490)]) == (1, 2)  # found again: nearby, and walking on
    assert persons.update(11, [_track(7, 110), _track(9, 110)]) == (1, 3)  # one number is never two people
    assert persons.update(12, [_track(0, 110), _track(7, 110)]) == (3, 1)  # also when the first track comes back
    assert persons.update(60, [_track(20, 110)]) == (4,)  # gone for too long
    persons.clear()
    assert persons.update(61, [_track(20, 110)]) == (5,)


def _lies(until: int, at: int = 40) -> Script:
    return lambda t: [_at(100 + t % 3, at <= t < until), _at(400, False)]


LONG = replace(CONFIG, long_lie_s=10.0, hysteresis=Hysteresis(0.5, 0.4, merge_s=1.0))


@pytest.mark.parametrize("unit", ["person", "scene"])
def test_who_does_not_get_up_again_is_an_alarm_of_their_own(tmp_path: Path, unit: str) -> None:
    _, messages = _watch(_lies(200), 260, tmp_path, replace(LONG, unit=unit))
    fall, lie, got_up = messages[0], messages[1], messages[-2] if unit == "person" else messages[-1]
    lies = [m for m in messages if m.get("rule") == "long_lie"]
    assert [m["event"] for m in lies] == ["alarm", "alarm_ended"]
    lie, got_up = lies
    assert (lie["person"], lie["of"], lie["start_s"]) == (1, fall["id"], 4.0)
    assert 14.0 <= lie["raised_s"] <= 14.2
    assert lie["id"] != fall["id"]
    assert (got_up["id"], got_up["reason"]) == (lie["id"], "got up")
    assert 19.9 <= got_up["end_s"] <= 20.1


def test_who_gets_up_or_lay_before_is_no_long_lie(tmp_path: Path) -> None:
    for script in (_lies(120), _lies(260, at=0)):
        model = Posture(unit="person")
        _, messages = _watch(script, 260, tmp_path, LONG, model)
        assert [m["event"] for m in messages if "rule" not in m] == ["alarm", "alarm_ended"]
        assert script(0)[0][0, 1] != script(50)[0][0, 1] or len(messages) == 4


def test_who_is_lost_on_the_floor_is_taken_to_lie_on(tmp_path: Path) -> None:
    def hidden(t: int) -> list[np.ndarray]:
        return [] if 70 <= t < 150 else [_at(100 + t % 3, t >= 40)]

    _, messages = _watch(hidden, 200, tmp_path, LONG)
    assert next(m["event"] for m in messages if m.get("rule") == "long_lie") == "alarm"


def test_postures() -> None:
    lying, standing = person((100, 100), True), person((100, 100), False)
    flat = standing.copy()
    flat[:, 0], flat[:, 1] = standing[:, 1], standing[:, 0]
    assert (posture(lying), posture(standing), posture(flat)) == ("lying", "upright", "lying")
    sitting = standing.copy()
    sitting[13:, 1] = sitting[12, 1]  # knees and ankles on the level of the hips
    assert posture(sitting) == ""
    assert posture(standing * (1, 1, 0)) == ""
