"""kill -9 of watcher, store, broker and page while an operator judges: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from labeling.conftest import WORD, serve
from labeling.test_browser import in_grid
from support import ROOT
from watch.test_mqtt import MOSQUITTO, Broker, paho

from posewatch import alarms
from posewatch.labels import verdicts
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.stack import seaweed
from posewatch.stack.process import wait_until
from posewatch.store import ObjectStore, open_store

SECONDS, PAUSE_S = 90.0, (1.0, 5.0)
"""How long they are killed, and how long nobody is killed in between."""
KEYS = "12"
ROWS = "article.alarm"
URI = "s3://posewatch/killed"

_WATCHER = """
import io, signal, sys, threading, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from watch.conftest import Grey, Posture, Several, person
from watch.test_records import CONFIG, QUIET
from posewatch.config import PoseConfig
from posewatch.store import open_store
from posewatch.watch.records.spool import Spool
from posewatch.watch.records.upload import Records
from posewatch.watch.sinks.sink import SinkContext
from posewatch.watch.sinks.table import open_delivery, open_sinks
from posewatch.watch.sources import Frame
from posewatch.watch.watcher import Watcher

out, stop = Path(sys.argv[2]), threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())

class Door(Grey):
    def frames(self, stop):
        began = datetime.now(UTC)
        for frame in super().frames(stop):
            if stop.wait(0.02):
                return
            yield Frame(frame.index, frame.time_s, began + timedelta(seconds=frame.time_s), frame.image)

source = Door(10**6, live=True)
falls = lambda t: [person((100 + t % 3, 60), t % 60 >= 30)]  # one alarm every six seconds of the camera
watcher = Watcher(source, Posture(unit="person"), Several(falls), PoseConfig(), CONFIG)
store = open_store(sys.argv[3])
records = Records(Spool(out / "records"), lambda: store, QUIET, "door")
with open_delivery(out / "outbox", sys.argv[4], cameras=["door"]) as box:
    context = SinkContext(
        source, watcher.stats, "abnormal", CONFIG, out, False, delivery=box, records=records, stream=io.StringIO()
    )
    print("watching", flush=True)
    with open_sinks(context) as sinks:
        watcher.run(sinks, stop)
    print("left", records.drain(120) + box.drain(60), flush=True)
records.close()
"""


class Victim:
    """Something that is killed and started again; ``kills`` counts."""

    def __init__(self, start: Callable[[], int]) -> None:
        self._start, self.kills = start, 0
        self.pid = start()

    def kill(self, away_s: float) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.kills += 1
        time.sleep(away_s)
        self.pid = self._start()


class Subscriber:
    """Whoever waits for alarms: it comes back after the broker does, and gets what came meanwhile (QoS 1)."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[str, str]] = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, "desk", protocol=paho.MQTTv311, clean_session=False)
        self.client.on_connect = lambda client, *_: client.subscribe("+/+/alarm", qos=1)
        self.client.on_message = self._take
        self.client.reconnect_delay_set(0.1, 0.2)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _take(self, _client: Any, _data: Any, message: Any) -> None:
        told = json.loads(message.payload)
        self.got.append((told["id"], told["event"]))

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Scene:
    """The four, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "watched"
        self.ports, self.keys = seaweed.choose_ports(None, 41_000), ("killed", "killed-secret")
        self.children: list[subprocess.Popen[Any]] = []
        endpoint = f"http://127.0.0.1:{self.ports[0]}"
        self.env = {
            "POSEWATCH_S3_ENDPOINT": endpoint, "POSEWATCH_S3_ACCESS_KEY": self.keys[0],
            "POSEWATCH_S3_SECRET_KEY": self.keys[1], "POSEWATCH_STORE": URI,
            "POSEWATCH_LABELS_URL": f"sqlite:///{folder}/labels.db", "POSEWATCH_AUTH": "proxy",
            "POSEWATCH_PROXY_SECRET": WORD, "HOME": str(folder),
        }  # fmt: skip
        self.labels = LabelStore(self.env["POSEWATCH_LABELS_URL"])
        roles.set_role(self.labels, "op", "operator", "test")
        self.url, self.started = "", 0
        (folder / "broker").mkdir()
        # what it has acknowledged is on disk within a second
        self.mosquitto = Broker(folder / "broker", "allow_anonymous true", "autosave_on_changes true")
        self.broker = Victim(self._broker)
        self.subscriber = Subscriber(self.mosquitto.port)
        self.store = Victim(self._store)
        self.page = Victim(self._page)
        self.watcher = Victim(self._watcher)

    def _store(self) -> int:
        log = self.folder / "s3.log"
        process = seaweed.launch(self.folder / "s3", log, self.ports, *self.keys)
        self.weed = process
        seaweed.wait_writable(process, log, self.env["POSEWATCH_S3_ENDPOINT"], *self.keys)
        return process.pid

    def _broker(self) -> int:
        if self.mosquitto.process is not None:
            self.mosquitto.process.wait()
        self.mosquitto.start()
        assert self.mosquitto.process is not None
        return self.mosquitto.process.pid

    def _page(self) -> int:
        port = int(self.url.rpartition(":")[2]) if self.url else None
        self.url, process = serve(self.env, self.folder / "page.log", port)
        self.children.append(process)
        return int(process.pid)

    def _watcher(self) -> int:
        self.out.mkdir(exist_ok=True)
        command = [sys.executable, "-c", _WATCHER, str(ROOT / "tests"), str(self.out), URI, self.mosquitto.url]
        log = self.folder / "watch.log"
        with log.open("ab") as file:
            self.watching = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **self.env})
        self.started += 1
        assert wait_until(lambda: log.read_text().count("watching\n") == self.started, 120), log.read_text()[-2000:]
        self.children.append(self.watching)
        return self.watching.pid

    def harm(self, over: threading.Event, dice: random.Random) -> None:
        """Kill one of them after the other, at random moments."""
        while not over.wait(dice.uniform(*PAUSE_S)):
            victim = dice.choice((self.watcher, self.store, self.page, self.broker))
            victim.kill(dice.uniform(0, 1.5))

    def close(self) -> None:
        for process in self.children:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.subscriber.close()
        self.mosquitto.stop()
        self.labels.close()
        seaweed.stop(self.weed, self.ports)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    if MOSQUITTO is None:
        pytest.skip("no mosquitto here (apt-get install mosquitto)")
    found = Scene(tmp_path)
    for key, value in found.env.items():
        if key.startswith("POSEWATCH_S3"):
            monkeypatch.setenv(key, value)
    yield found
    found.close()


def _judge(page: Any, pressed: dict[str, str]) -> bool:
    """Press a key on the alarm in focus, if it has no verdict yet; whether there was one."""
    focus = page.locator(f"{ROWS}.focus")
    number = focus.get_attribute("data-alarm") if focus.count() else None
    if number is None or number in pressed:
        page.keyboard.press("ArrowUp")  # new alarms join above
        page.wait_for_timeout(100)
        return False
    key = KEYS[len(pressed) % 2]
    page.keyboard.press(key)
    # the page says no, and why, of a clip that nobody can see because its store is away: that was no verdict
    if not in_grid(page, f"desk.verdictOf(desk.rows.get('{number}'))?.verdict ?? ''", "desk"):
        page.keyboard.press("ArrowUp")
        page.wait_for_timeout(100)
        return False
    pressed[number] = dict(zip("1234", verdicts.VERDICTS, strict=True))[key]
    page.wait_for_timeout(150)
    return True


def _stored(store: ObjectStore) -> list[str]:
    return [record.id for record in alarms.records(store)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_alarm_and_no_verdict_is_lost_and_none_is_there_twice(
    scene: Scene, browse: Callable[..., Any], seed: int
) -> None:
    headers = {"kubeflow-userid": "op", "x-posewatch-proxy-secret": WORD}
    page = browse(f"{scene.url}/alarms", extra_http_headers=headers)
    page.locator(ROWS).first.wait_for()
    over, pressed = threading.Event(), {}
    killer = threading.Thread(target=scene.harm, args=(over, random.Random(seed)))
    killer.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        _judge(page, pressed)
    over.set()
    killer.join()
    while_killed = len(pressed)
    scene.watching.terminate()
    assert scene.watching.wait(180) == 0
    assert (scene.folder / "watch.log").read_text().splitlines()[-1] == "left 0"

    # what was told is stored, once, and each record is whole
    store = open_store(URI)
    messages = [json.loads(line) for line in (scene.out / "alarms.jsonl").read_text().splitlines()]
    told = [(m["id"], m["event"]) for m in messages]
    assert len(told) == len(set(told))
    raised = {number for number, event in told if event == "alarm"}
    assert {number for number, event in told if event == "alarm_ended"} == raised
    stored = _stored(store)
    assert len(stored) == len(set(stored))
    assert set(stored) == raised
    for record in alarms.records(store):
        record.artifact.fetch_all(scene.folder / "check")

    # the subscriber has every message; after a kill one may come again, with the same id
    assert wait_until(lambda: set(scene.subscriber.got) >= set(told), 30), set(told) - set(scene.subscriber.got)
    assert set(scene.subscriber.got) == set(told)

    # the browser sends what it has kept, and the rest is judged
    assert wait_until(lambda: set(pressed) <= set(verdicts.current(scene.labels)), 60)
    page.goto(f"{scene.url}/alarms?verdict=open")
    while set(pressed) != raised:
        page.locator(ROWS).first.wait_for()
        if not _judge(page, pressed) and set(pressed) != raised:
            page.goto(f"{scene.url}/alarms?verdict=open")
    page.wait_for_selector(".state:not(.busy)")
    assert wait_until(lambda: set(verdicts.current(scene.labels)) == raised, 60)
    for number, verdict in pressed.items():
        events = verdicts.history(scene.labels, number)
        assert [(one.verdict, one.who) for one in events] == [(verdict, "op")], number
    kills = {name: getattr(scene, name).kills for name in ("watcher", "store", "page", "broker")}
    again = len(scene.subscriber.got) - len(told)
    assert all(kills.values()), kills
    print(
        f"seed {seed}: kills {kills}; {len(raised)} alarms, {while_killed} verdicts while they were killed, none lost; "
        f"{again} messages came again"
    )
