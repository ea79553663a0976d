"""A camera is looked at while Frigate sees a person: over a real mosquitto, with messages as Frigate publishes them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from watch.conftest import Falls, Grey, Posture
from watch.test_mqtt import Broker, broker, paho, until  # noqa: F401
from watch.test_watch import _watch

from posewatch import video
from posewatch.cli.main import main
from posewatch.errors import InputError
from posewatch.watch.frigate_persons import FrigatePersons
from posewatch.watch.gate import GatedSource
from posewatch.watch.sources import Counters, Frame, Unwatched

CAMERAS = ("hall", "front_door")


class Frigate:
    """Publishes as Frigate 0.14 to 0.18 does (comms/mqtt.py, comms/dispatcher.py, track/object_processing.py): MQTT
    3.1.1, QoS 0, ``available`` retained and as its last will, an answer to ``onConnect``."""

    def __init__(self, port: int) -> None:
        self.objects: dict[str, dict[str, str]] = {camera: {} for camera in CAMERAS}
        self.asked, self.config = 0, {"detect": True, "enabled": True}
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, "frigate")
        self.client.will_set("frigate/available", "offline", 1, retain=True)
        self.client.on_message = self._on_connect
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("frigate/onConnect")
        self.client.loop_start()
        self.client.publish("frigate/available", "online", retain=True)

    def _on_connect(self, client: Any, data: Any, message: Any) -> None:
        self.asked += 1
        activity = {
            camera: {"config": self.config, "motion": False, "objects": [
                {"id": number, "label": label, "stationary": True, "area": 1, "ratio": 1.0, "score": 0.8}
                for number, label in objects.items()
            ]} for camera, objects in self.objects.items()
        }  # fmt: skip
        self.client.publish("frigate/camera_activity", json.dumps(activity))

    def event(self, kind: str, number: str, camera: str = "front_door", label: str = "person", **more: Any) -> None:
        ended = {"end_time": time.time() if kind == "end" else None}
        after = {"id": number, "camera": camera, "label": label, "false_positive": False, **ended, **more}
        self.client.publish("frigate/events", json.dumps({"type": kind, "before": after, "after": after}))

    def count(self, count: int, camera: str = "front_door", label: str = "person") -> None:
        self.client.publish(f"frigate/{camera}/{label}", count)

    def state(self, topic: str, payload: str) -> None:
        """``status/<role>`` is told again every ten seconds, the others are retained."""
        self.client.publish(f"frigate/front_door/{topic}", payload, retain=not topic.startswith("status"))

    def die(self) -> None:
        """Without a goodbye: the broker publishes the last will."""
        self.client.loop_stop()
        self.client.socket().close()

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def persons(broker: Broker) -> Iterator[FrigatePersons]:  # noqa: F811
    made = FrigatePersons(f"{broker.url}?camera=front_door&after=0.1")
    made.start()
    yield made
    made.close()


def looks(persons: FrigatePersons, wanted: bool) -> None:
    until(lambda: True if persons.wanted is wanted else None)


def test_it_looks_while_frigate_sees_somebody_and_while_that_is_unknown(
    broker: Broker,  # noqa: F811
    persons: FrigatePersons,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert persons.wanted, "nobody has told anything"
    until(lambda: (persons.wanted and "Frigate is not online" in caplog.text) or None)
    frigate = Frigate(broker.port)
    looks(persons, False)
    frigate.event("new", "1.5-abc")
    looks(persons, True)
    time.sleep(0.2)
    assert persons.wanted, "until it ends"
    frigate.event("end", "1.5-abc")
    looks(persons, False)
    # none of these is about a person of this camera, or from Frigate
    frigate.event("new", "2.5-abc", camera="hall")
    frigate.event("new", "3.5-abc", label="dog")
    frigate.event("new", "4.5-abc", false_positive=True)
    for content in (b"\xff{", b"[]", b'{"type": "new"}', b'{"after": {"camera": 3}}', b""):
        frigate.client.publish("frigate/events", content)
        frigate.client.publish("frigate/front_door/person", content)
    until(lambda: "front_door/person is not Frigate's" in caplog.text or None)
    assert not persons.wanted
    frigate.count(1)
    looks(persons, True)
    assert caplog.text.count("is not Frigate's") == 2, "once for each topic"
    frigate.event("new", "5.5-abc")
    frigate.count(0)  # the end of an event that was missed
    looks(persons, False)
    frigate.die()
    looks(persons, True)
    frigate = Frigate(broker.port)
    looks(persons, False)
    broker.stop()
    frigate.stop()
    looks(persons, True)
    broker.start()
    frigate = Frigate(broker.port)
    looks(persons, False)
    frigate.stop()
    assert "looking only then" in caplog.text


def test_who_is_there_already_is_looked_at(broker: Broker, persons: FrigatePersons) -> None:  # noqa: F811
    frigate = Frigate(broker.port)
    looks(persons, False)
    frigate.objects["front_door"] = {"1.5-abc": "person-verified"}
    late = FrigatePersons(f"{broker.url}/frigate/?camera=front_door&after=0")
    late.start()
    until(lambda: frigate.asked >= 2 or None)
    looks(persons, True)  # the answer reaches everybody
    until(lambda: True if late.wanted and not late._unknown() else None)
    frigate.event("end", "1.5-abc")
    frigate.count(0)
    looks(late, False)
    late.close()
    frigate.stop()


def test_a_camera_that_frigate_has_not_is_looked_at(
    broker: Broker,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    frigate = Frigate(broker.port)
    other = FrigatePersons(f"{broker.url}?camera=cellar")
    other.start()
    until(lambda: "Frigate has no camera cellar (it has: front_door, hall)" in caplog.text or None)
    assert other.wanted
    other.close()
    frigate.stop()


@pytest.mark.parametrize(
    ("topic", "off", "on", "why"),
    [
        ("detect/state", "OFF", "ON", "detection is turned off for this camera"),
        ("enabled/state", "OFF", "ON", "this camera is turned off in Frigate"),
        ("status/detect", "offline", "online", "this camera gives Frigate no picture"),
        ("status/detect", "disabled", "online", "this camera gives Frigate no picture"),
    ],
)
def test_what_frigate_does_not_look_at_is_looked_at(
    broker: Broker,  # noqa: F811
    persons: FrigatePersons,
    caplog: pytest.LogCaptureFixture,
    topic: str,
    off: str,
    on: str,
    why: str,
) -> None:
    frigate = Frigate(broker.port)
    frigate.client.publish(f"frigate/hall/{topic}", off, retain=True)
    looks(persons, False)
    frigate.state(topic, off)
    looks(persons, True)
    frigate.count(0)  # as Frigate says of a camera that it does not look at
    until(lambda: why in caplog.text or None)
    assert persons.wanted
    frigate.state(topic, on)
    looks(persons, False)
    frigate.stop()


def test_a_camera_that_was_turned_off_before_is_looked_at(
    broker: Broker,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    frigate = Frigate(broker.port)
    frigate.config = {"detect": False}  # as before 0.16, which turns off no camera
    late = FrigatePersons(f"{broker.url}?camera=front_door")
    late.start()
    until(lambda: (late.wanted and "detection is turned off" in caplog.text) or None)
    late.close()
    frigate.stop()


class Times:
    """A gate that is open at these numbers of questions, one for each frame."""

    def __init__(self, *times: range, before_s: float = 1.0) -> None:
        self.times, self.before_s, self._asked = times, before_s, -1

    @property
    def wanted(self) -> bool:
        self._asked += 1
        return any(self._asked in times for times in self.times)


def test_the_time_before_comes_first() -> None:
    gated = GatedSource(Grey(100, live=True), Times(range(30, 40), range(45, 50)), 10)
    got = list(gated.frames(threading.Event()))
    assert [frame.index for frame in got if isinstance(frame, Frame)] == [*range(20, 50)]
    assert sum(isinstance(frame, Unwatched) for frame in got) == 85
    gated = GatedSource(Grey(100, live=True), Times(range(30, 40), before_s=0), 10)
    kept: list[bool] = [True] * 5
    gated.keep = lambda: bool(kept and kept.pop())
    looked = [frame.index for frame in gated.frames(threading.Event()) if isinstance(frame, Frame)]
    assert looked == [*range(30, 45)], "as long as there is an alarm"


def test_alarms_end_with_the_looking(tmp_path: Path) -> None:
    """Two visits; somebody lies in both until they are gone. Nobody is looked for at other times."""

    class Camera:
        name, live, counters = "door", True, Counters()

        def frames(self, stop: threading.Event) -> Iterator[Frame]:
            began = datetime(2026, 3, 1, 9, tzinfo=UTC)
            for i in range(260):
                yield Frame(i, i / 10, began + timedelta(seconds=i / 10), np.full((120, 160, 3), 90, np.uint8))

    estimator, status = Falls(0), tmp_path / "status.json"
    gated = GatedSource(Camera(), Times(range(50, 90), range(150, 190)), 10)
    stats, alarms = _watch(gated, Posture(), estimator, tmp_path, status=status)
    assert estimator.calls == 100, "40 frames each, and the second before"
    assert (stats.frames, stats.unwatched) == (100, 180)
    assert [alarm["event"] for alarm in alarms] == ["alarm", "alarm_ended"] * 2
    assert [alarm["id"] for alarm in alarms[::2]] == [alarm["id"] for alarm in alarms[1::2]]
    assert 3.5 <= alarms[0]["start_s"] <= 5.0 < alarms[1]["end_s"] <= 9.0
    assert 13.5 <= alarms[2]["start_s"] <= 15.0 < alarms[3]["end_s"] <= 19.0
    for alarm in alarms[::2]:
        assert video.probe(tmp_path / "alarms" / f"{alarm['id']}.mp4").frames >= 20
    figures = json.loads(status.read_text())
    assert figures["behind_s"] == 0, "of no frame that waits"
    assert (figures["unwatched"], figures["persons"], figures["raised"]) == (180, 0, False)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "which camera"),
        ("?camera=a/%23", "which camera"),
        ("?camera=a&label=%2B", "label"),
        ("?camera=a&after=-1", "after"),
        ("?camera=a&before=1e9", "before"),
        ("?camera=a&colour=1", "colour"),
    ],
)
def test_a_wrong_address_is_told_at_once(query: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        FrigatePersons(f"mqtt://host/frigate{query}")
    with pytest.raises(InputError, match="mqtt://host"):
        FrigatePersons(f"http://host/frigate{query}")


def test_a_recording_has_no_gate(clip: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["watch", str(clip()), "--model", "m.onnx", "--out", str(tmp_path / "out")]
    assert main([*command, "--frigate", "mqtt://host/frigate?camera=a"]) != 0
    assert "--frigate is for a camera" in capsys.readouterr().err
