"""Alarms by MQTT through a real mosquitto: at least once, states retained; a broker that is away, refuses, restarts."""

from __future__ import annotations

import contextlib
import gc
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, self_signed, stop_and_wait
from watch.home_assistant_card import card

from posewatch.errors import InputError
from posewatch.watch import broker as watch_broker
from posewatch.watch.sinks import delivery
from posewatch.watch.sinks.mqtt import discovery, level
from posewatch.watch.sinks.queued_alarms import QueuedAlarms
from posewatch.watch.sinks.table import open_delivery

paho = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
MOSQUITTO = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
HOSTILE = 'hall #1/+/$SYS "ü\n\u2028' + "x" * 300


def message(number: int, event: str = "alarm", camera: str = "hall", **more: Any) -> dict[str, Any]:
    time_ = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    return {"id": f"a{number}", "event": event, "source": camera, "label": "abnormal", "time": time_, **more}


class Broker:
    """A mosquitto on a port of its own, which can be stopped and started again, with what it has kept."""

    def __init__(self, folder: Path, *lines: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.config = folder / "mosquitto.conf"
        common = [f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/", "user root"]
        self.config.write_text(
            "\n".join([*common, "autosave_interval 1", *(lines or ("allow_anonymous true",))]) + "\n"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.url = f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", self.config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(lambda: self._listens() or None)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None


def until(value: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for a value that is not None."""
    end = time.monotonic() + seconds
    while (found := value()) is None:
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    if MOSQUITTO is None:
        pytest.skip("no mosquitto here (apt-get install mosquitto)")
    folder = tmp_path / "broker"
    folder.mkdir()
    made = Broker(folder)
    made.start()
    yield made
    made.stop()


class Listener:
    """Everything that is published, as (topic, content, retained), since the subscription and before."""

    def __init__(self, port: int, user: str = "", password: str = "") -> None:
        self.got: list[tuple[str, str, bool]] = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        if user:
            self.client.username_pw_set(user, password)
        ready: list[int] = []
        self.client.on_subscribe = lambda *_: ready.append(1)
        self.client.on_message = lambda c, d, m: self.got.append((m.topic, m.payload.decode(), bool(m.retain)))
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("#", qos=1)
        self.client.loop_start()
        until(lambda: ready or None)

    def last(self, topic: str) -> str | None:
        return next((content for at, content, _ in reversed(self.got) if at == topic), None)

    def alarms(self) -> list[str]:
        return [f"{m['id']} {m['event']}" for t, c, _ in self.got if t.endswith("/alarm") for m in [json.loads(c)]]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client.on_message = self.client.on_subscribe = None


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    made = Listener(broker.port)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_S", 0.05)
    monkeypatch.setattr(delivery, "MAX_S", 0.2)


class Tap(threading.Thread):
    """Stands between a client and a broker, and counts the messages under way: sent with QoS 1, not confirmed yet.

    The ``cut``-th confirmation ends the connection instead of arriving.
    """

    def __init__(self, port: int, cut: int) -> None:
        super().__init__(daemon=True)
        self.broker, self.left, self.limit, self.most = port, cut, 0, 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.start()

    def run(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            self.under_way = 0
            with client, socket.create_connection(("127.0.0.1", self.broker)) as broker:
                back = threading.Thread(target=self._back, args=(broker, client), daemon=True)
                back.start()
                with contextlib.suppress(OSError):
                    for packet in self._packets(client):
                        if packet[0] >> 4 == 3:
                            self.under_way += 1
                            self.most = max(self.most, self.under_way)
                        broker.sendall(packet)
                with contextlib.suppress(OSError):
                    broker.shutdown(socket.SHUT_RDWR)
                back.join(20)

    def _back(self, broker: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._answers(broker, client)

    def _answers(self, broker: socket.socket, client: socket.socket) -> None:
        for packet in self._packets(broker):
            if packet[0] >> 4 == 2:  # the CONNACK, with a Receive Maximum (property 0x21)
                self.limit = int.from_bytes(packet[packet.rindex(b"\x21") + 1 :][:2], "big")
            if packet[0] >> 4 == 4:
                time.sleep(0.01)  # a broker on the other side of a network
                self.left -= 1
                if self.left == 0:
                    client.shutdown(socket.SHUT_RDWR)
                    return
                self.under_way -= 1
            client.sendall(packet)

    @staticmethod
    def _packets(source: socket.socket) -> Iterator[bytes]:
        read = source.makefile("rb").read
        while start := read(2):
            size, shift = start[1] & 127, 7
            while start[-1] & 128:
                start += read(1)
                size, shift = size | (start[-1] & 127) << shift, shift + 7
            yield start + read(size)


@pytest.fixture
def strict_broker(tmp_path: Path) -> Iterator[Broker]:
    """One that allows a single message under way (HiveMQ: ten)."""
    if MOSQUITTO is None:
        pytest.skip("no mosquitto here (apt-get install mosquitto)")
    folder = tmp_path / "strict"
    folder.mkdir()
    made = Broker(folder, "allow_anonymous true", "max_inflight_messages 1")
    made.start()
    yield made
    made.stop()


def test_no_more_messages_are_under_way_than_the_broker_allows(strict_broker: Broker, tmp_path: Path) -> None:
    """mosquitto only says what it allows; others close the connection, each time anew."""
    tap = Tap(strict_broker.port, cut=25)
    listener = Listener(strict_broker.port)
    cameras = [f"camera{number}" for number in range(20)]
    with open_delivery(tmp_path / "outbox", f"mqtt://127.0.0.1:{tap.port}", cameras=cameras) as box:
        box.put("a1-alarm", message(1, camera="camera7"))
        until(lambda: listener.last("posewatch/camera0/availability") == "online" or None)
        assert box.drain(20) == 0
        until(lambda: listener.last("posewatch/camera7/state") == "ON" or None)
    assert [listener.last(f"posewatch/{camera}/state") for camera in cameras].count("OFF") == 19
    listener.close()
    tap.server.close()
    assert tap.left <= 0, "the connection was not cut: the test shows less than it says"
    assert tap.most == tap.limit == 1


def test_the_last_will_of_a_connection_that_is_gone(
    broker: Broker, listener: Listener, tmp_path: Path, monkeypatch: Any
) -> None:
    """A network that forgets a connection tells only the watcher: the broker waits for the next sign of life."""
    monkeypatch.setattr(watch_broker, "KEEPALIVE_S", 2)
    topic = "posewatch/hall/availability"
    with socket.create_server(("127.0.0.1", 0)) as network:
        with open_delivery(tmp_path / "outbox", f"mqtt://127.0.0.1:{network.getsockname()[1]}", cameras=["hall"]):
            ends = []
            for _ in range(2):
                client, there = network.accept()[0], socket.create_connection(("127.0.0.1", broker.port))
                ends += [client, there]
                for one, other in ((client, there), (there, client)):
                    threading.Thread(target=_carry, args=(one, other), daemon=True).start()
                until(lambda: listener.last(topic) == "online" or None)
                if len(ends) == 2:
                    client.shutdown(socket.SHUT_RDWR)
            until(lambda: (topic, "offline", False) in listener.got or None)
            until(lambda: listener.last(topic) == "online" or None)
        for end in ends:
            end.close()


_OLD = """
import sys, time
from pathlib import Path
from posewatch.watch import broker
from posewatch.watch.sinks.table import open_delivery
broker.KEEPALIVE_S = 5
with open_delivery(Path(sys.argv[1]), sys.argv[2], cameras=["hall"]):
    time.sleep(60)
"""


def test_the_last_will_of_a_machine_that_lost_its_power(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    """It is back before the broker has missed it: the will of the watcher before comes while the new one watches."""
    topic = "posewatch/hall/availability"
    command = [sys.executable, "-c", _OLD, str(tmp_path / "old"), broker.url]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as old:
        try:
            until(lambda: listener.last(topic) == "online" or None, 60)
            stop_and_wait(old.pid)  # nobody closes its connection
            with open_delivery(tmp_path / "outbox", broker.url, cameras=["hall"]):
                until(lambda: listener.got.count((topic, "online", False)) >= 2 or None)
                assert (topic, "offline", False) not in listener.got, "it came too early for this test"
                until(lambda: (topic, "offline", False) in listener.got or None)
                until(lambda: listener.last(topic) == "online" or None)
            until(lambda: listener.last(topic) == "offline" or None)
        finally:
            old.kill()
    time.sleep(0.3)
    assert listener.last(topic) == "offline", "its own end is no will of another"


def test_a_camera_without_pictures_is_not_available(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    """Else Home Assistant shows a camera that is torn off the wall as one that sees nothing."""
    topic = "posewatch/hall/availability"
    with open_delivery(tmp_path / "outbox", broker.url, cameras=["hall"]) as box:
        sink = QueuedAlarms(box)
        until(lambda: listener.last(topic) == "online" or None)
        sink.silent(10.0)
        until(lambda: listener.last(topic) == "offline" or None)
        heard = len(listener.got)
        broker.stop()
        broker.start()  # the watcher connects again, and its camera still is silent
        again = Listener(broker.port)
        box.put("a1-alarm_ended", message(1, "alarm_ended"))
        assert box.drain(20) == 0
        until(lambda: again.last(topic) == "offline" or None)
        assert "online" not in [content for _, content, _ in [*listener.got[heard:], *again.got]]
        sink.unwatched(12.0)
        until(lambda: again.last(topic) == "online" or None)
        again.close()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def test_an_alarm_is_an_entity_with_a_state(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    with open_delivery(tmp_path / "outbox", broker.url, cameras=["hall", HOSTILE]) as box:
        config = json.loads(until(lambda: listener.last("homeassistant/binary_sensor/posewatch_hall/alarm/config")))
        assert config["device"]["name"] == "hall"
        assert until(lambda: listener.last(config["availability_topic"])) == "online"
        assert until(lambda: listener.last(config["state_topic"])) == "OFF"
        for number, event, state in (
            (1, "alarm", "ON"),
            (2, "alarm", "ON"),
            (1, "alarm_ended", "ON"),
            (2, "alarm_ended", "OFF"),
        ):
            box.put(f"a{number}-{event}", message(number, event))
            assert box.drain(20) == 0
            until(lambda at=f"a{number} {event}": at in listener.alarms() or None)
            assert listener.last(config["state_topic"]) == state
        assert json.loads(listener.last(config["json_attributes_topic"]) or "")["id"] == "a2"
        box.put("a3-alarm", message(3, camera=HOSTILE, probability=0.9))
        assert box.drain(20) == 0
        until(lambda: listener.last(f"posewatch/{level(HOSTILE)}/state") == "ON" or None)
        late = Listener(broker.port)  # Home Assistant after a restart
        until(lambda: late.last(f"posewatch/{level(HOSTILE)}/attributes"))
        assert {retained for _, _, retained in late.got} == {True}
        assert not late.alarms()
        late.close()
    assert until(lambda: "offline" if listener.last(config["availability_topic"]) == "offline" else None)
    assert listener.alarms() == ["a1 alarm", "a2 alarm", "a1 alarm_ended", "a2 alarm_ended", "a3 alarm"]


@pytest.mark.parametrize("camera", ["hall", "Hall", HOSTILE, "+", "#", "a/b", "a_b", "$SYS", "", "\x00", "카메라"])
def test_a_camera_is_one_level_of_a_topic(camera: str) -> None:
    assert len(level(camera)) <= 60
    assert set(level(camera)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    config = discovery(camera, "posewatch", "x")
    json.dumps(config)
    assert config["unique_id"] == f"posewatch_{level(camera)}_alarm"
    others = ["hall", "Hall", HOSTILE, "+", "#", "a/b", "a_b", "$SYS", "", "\x00", "카메라"]
    assert sum(level(other) == level(camera) for other in others) == 1


def test_the_picture_is_drawn_from_the_discovery_payload() -> None:
    assert (ROOT / "docs" / "home-assistant.svg").read_text(encoding="utf-8") == card()


def test_a_broker_that_is_away_loses_nothing_and_gets_nothing_twice(broker: Broker, tmp_path: Path) -> None:
    broker.stop()
    with open_delivery(tmp_path / "outbox", broker.url, cameras=["hall"]) as box:
        for number in range(3):
            box.put(f"a{number}-alarm", message(number))
        until(lambda: box.failures or None)
        assert box.drain(0.1) == 3
        broker.start()
        listener = Listener(broker.port)
        assert box.drain(30) == 0
        until(lambda: len(listener.alarms()) == 3 or None)
        broker.stop()  # in the middle of everything
        box.put("a3-alarm", message(3))
        until(lambda: box.failures > 3 or None)
        broker.start()
        again = Listener(broker.port)
        assert box.drain(30) == 0
        until(lambda: "a3 alarm" in again.alarms() or None)
        time.sleep(0.3)
        assert sorted(listener.alarms() + again.alarms()).count("a3 alarm") <= 2  # both listened
        assert again.alarms() == ["a3 alarm"]
        listener.close()
        again.close()


_PUTS = """
import sys, time
from pathlib import Path
from posewatch.watch.sinks import delivery
from posewatch.watch.sinks.table import open_delivery
delivery.FIRST_S = delivery.MAX_S = 0.1
with open_delivery(Path(sys.argv[1]), sys.argv[2], cameras=["hall"]) as box:
    for n in range(200):
        box.put(f"a{n}-alarm", {"id": f"a{n}", "event": "alarm", "source": "hall", "time": "2026-01-01T00:00:00+00:00"})
        print(n, flush=True)
    time.sleep(60)
"""


def test_kill_9_loses_no_alarm(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PUTS, str(tmp_path / "outbox"), broker.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        assert other.stdout is not None
        until(lambda: len(listener.alarms()) > 5 or None, 60)
        other.send_signal(signal.SIGKILL)
        put = [int(line) for line in other.stdout]
    until(lambda: "offline" if listener.last("posewatch/hall/availability") == "offline" else None, 60)  # its last will
    with open_delivery(tmp_path / "outbox", broker.url, cameras=["hall"]) as box:
        assert box.drain(60) == 0
    got = [json.loads(c)["id"] for t, c, _ in listener.got if t.endswith("/alarm")]
    assert set(got) >= {f"a{n}" for n in range(len(put))}
    assert len(got) - len(set(got)) <= 1, "only the message that was under way can come twice, with its id"
    assert listener.last("posewatch/hall/state") == "OFF", "an alarm of a process that is gone says nothing of now"


def test_a_broker_that_refuses_keeps_the_alarms_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if MOSQUITTO is None:
        pytest.skip("no mosquitto here (apt-get install mosquitto)")
    passwords, rules = tmp_path / "passwords", tmp_path / "rules"
    tool = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
    subprocess.run([tool, "-b", "-c", passwords, "ann", "p#ss/w?rd"], check=True)
    subprocess.run([tool, "-b", passwords, "eve", "x"], check=True)
    rules.write_text("user ann\ntopic readwrite #\nuser eve\ntopic read #\n")
    for path in (passwords, rules):
        path.chmod(0o644)
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}", f"acl_file {rules}")
    broker.start()
    host = f"127.0.0.1:{broker.port}"
    try:
        for number, (user, reason) in enumerate((("ann:wrong", "Not authorized"), ("eve:x", "does not take"))):
            with open_delivery(tmp_path / "outbox", f"mqtt://{user}@{host}") as box:
                if not number:
                    box.put("a0-alarm", message(0))
                until(lambda: box.failures > 1 or None)
                assert box.drain(0.1) == 1
            assert any(reason in line for line in caplog.messages), caplog.messages
        listener = Listener(broker.port, "ann", "p#ss/w?rd")
        with open_delivery(tmp_path / "outbox", f"mqtt://ann@{host}", "p#ss/w?rd") as box:
            assert box.drain(30) == 0
        until(lambda: listener.alarms() == ["a0 alarm"] or None)
        listener.close()
    finally:
        broker.stop()
    assert not [line for line in caplog.messages if "p#ss" in line or "wrong" in line]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mqtt://host/a?retain=1", "has no option 'retain'"),
        ("mqtt://host/a%2B", r"no \+ and no #"),
        ("mqtts://host/?ca=/no/such/file", "cannot be read"),
        ("mqtts://host/?cert=/no/such/file", r"certificate of the mqtt address \(cert, key\) cannot be read"),
        ("mqtts://host/?key=/etc/hostname", "a key without its certificate"),
        ("mqtt://", "a webhook is an address"),
    ],
)
def test_addresses_that_are_wrong(url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message), open_delivery(tmp_path, url):
        pass


# paho leaves the sockets of failed handshakes open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_that_wants_a_certificate_of_the_watcher(tmp_path: Path) -> None:
    if MOSQUITTO is None:
        pytest.skip("no mosquitto here (apt-get install mosquitto)")
    key, certificate = self_signed(tmp_path)
    files = [f"certfile {certificate}", f"keyfile {key}", f"cafile {certificate}"]
    broker = Broker(tmp_path, *files, "require_certificate true", "use_identity_as_username true")
    broker.start()
    try:
        place = f"mqtts://127.0.0.1:{broker.port}/?ca={certificate}"
        with open_delivery(tmp_path / "outbox", place) as box:
            box.put("a0-alarm", message(0))
            until(lambda: box.failures > 1 or None)
            assert box.drain(0.3) == 1
        with open_delivery(tmp_path / "outbox", f"{place}&cert={certificate}&key={key}") as box:
            assert box.drain(30) == 0
        gc.collect()
    finally:
        broker.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_is_verified(tmp_path: Path) -> None:
    if MOSQUITTO is None:
        pytest.skip("no mosquitto here (apt-get install mosquitto)")
    key, certificate = self_signed(tmp_path)
    broker = Broker(tmp_path, "allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    broker.start()
    try:
        with open_delivery(tmp_path / "outbox", f"mqtts://127.0.0.1:{broker.port}") as box:
            box.put("a0-alarm", message(0))
            until(lambda: box.failures > 1 or None)
            assert box.drain(0.3) == 1, "an unknown authority"
        gc.collect()
        with open_delivery(tmp_path / "outbox", f"mqtts://127.0.0.1:{broker.port}/?ca={certificate}") as box:
            assert box.drain(30) == 0
    finally:
        broker.stop()
