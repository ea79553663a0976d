"""Alarms as events of Frigate, against a server that answers as its API does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from watch.frigate_server import FrigateServer, serving
from watch.test_siem import certificate  # noqa: F401

from posewatch.errors import InputError
from posewatch.stack.process import wait_until
from posewatch.watch.sinks import delivery
from posewatch.watch.sinks.frigate import sub_label
from posewatch.watch.sinks.table import open_delivery

ID = "7a1c0d52-0000-5000-8000-0000000000"


def message(number: int = 1, event: str = "alarm", ago_s: float = 0.0, **more: Any) -> dict[str, Any]:
    """A message that was sent ``ago_s`` seconds ago, about an alarm that began 1.5 s before it was raised."""
    at = datetime.now(UTC) - timedelta(seconds=ago_s)
    times = {"time": at.isoformat(timespec="milliseconds"), "start_s": 41.0, "raised_s": 42.5, "end_s": None}
    return {
        "event": event, "id": f"{ID}{number:02d}", "source": "hall", "label": "abnormal", "probability": 0.93,
        **times, **more,
    }  # fmt: skip


@contextmanager
def running(**options: Any) -> Iterator[FrigateServer]:
    server = FrigateServer(**options)
    thread = serving(server)
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def frigate() -> Iterator[FrigateServer]:
    with running() as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_S", 0.02)
    monkeypatch.setattr(delivery, "MAX_S", 0.05)


def deliver(folder: Path, url: str, *messages: dict[str, Any], secret: str = "") -> int:
    """How many messages are refused."""
    with open_delivery(folder, url, secret) as box:
        for one in messages:
            box.put(f"{one['id']}-{one['event']}", one)
        assert box.drain(20) == 0
    return len(list(folder.glob("refused/*")))


def test_an_alarm_is_an_event_with_its_begin_and_end(frigate: FrigateServer, tmp_path: Path) -> None:
    frigate.hidden = 3  # the event is not written yet when its end comes
    about = {"person": 2, "rule": "long_lie"}
    ended = message(event="alarm_ended", **about)
    assert deliver(tmp_path, f"frigate+http://{frigate.place}?camera=front_door", message(**about), ended) == 0
    (event,) = frigate.events.values()
    assert (event["camera"], event["label"]) == ("front_door", "abnormal")
    assert event["sub_label"] == f"posewatch long lie #2 {ID}01"
    assert event["data"]["score"] == 0.93
    assert event["has_clip"] is True
    assert event["end_time"] == pytest.approx(datetime.fromisoformat(ended["time"]).timestamp())
    assert event["end_time"] - event["start_time"] == pytest.approx(1.5, abs=1.0)


def test_events_of_a_fixed_length_are_not_ended(frigate: FrigateServer, tmp_path: Path) -> None:
    url = f"frigate+http://{frigate.place}/?duration=20&label=fight/../x&include_recording=false"
    assert deliver(tmp_path, url, message(), message(event="alarm_ended")) == 0
    (event,) = frigate.events.values()
    assert event["label"] == "fight____x", "no label reaches another path"
    assert not event["has_clip"]
    assert event["end_time"] - time.time() == pytest.approx(20, abs=5)
    assert [method for method, _ in frigate.asked].count("PUT") == 0


def test_a_lost_answer_makes_no_second_event(frigate: FrigateServer, tmp_path: Path) -> None:
    frigate.script = [503, 429, 0]
    assert deliver(tmp_path, f"frigate+http://{frigate.place}", message(), message(2)) == 0
    assert [row["sub_label"][-2:] for row in frigate.events.values()] == ["01", "02"]


_SENDS = """
import json, sys, time
from pathlib import Path
from posewatch.watch.sinks.frigate import Frigate
from posewatch.watch.sinks.outbox import Outbox
box = Outbox(Path(sys.argv[1]))
one = json.loads(sys.argv[3])
box.put(f"{one['id']}-{one['event']}", one)
Frigate(sys.argv[2], "").send(*box.read(box.messages()[0]))
print("sent", flush=True)
time.sleep(60)  # killed before the message is removed
"""


def test_a_killed_sender_makes_no_second_event(frigate: FrigateServer, tmp_path: Path) -> None:
    url = f"frigate+http://{frigate.place}"
    command = [sys.executable, "-c", _SENDS, str(tmp_path), url, json.dumps(message())]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"sent\n"
        other.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.glob("*.json"))) == 1
    assert deliver(tmp_path, url, message(event="alarm_ended")) == 0
    (event,) = frigate.events.values()
    assert event["end_time"] is not None, "found again by its sub label, and ended"


def test_what_frigate_does_not_take_holds_up_nothing(
    frigate: FrigateServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["cellar", "..", 'hall/../../x?a=1#"ü\n\u2028', ""]
    messages = [message(n, source=name) for n, name in enumerate(names, 10)]
    gone = message(20, event="alarm_ended")
    assert deliver(tmp_path, f"frigate+http://{frigate.place}", *messages, gone, message()) == 5
    assert [event["camera"] for event in frigate.events.values()] == ["hall"]
    assert "Frigate answered 404: cellar is not a valid camera." in caplog.text
    assert caplog.text.count("?camera=NAME") == 3
    assert "no event of an alarm that has ended" in caplog.text
    assert all(path.startswith(("/api/events?", "/api/events/")) for _, path in frigate.asked)
    assert all("/.." not in path and "\u2028" not in path for _, path in frigate.asked)


def test_an_old_alarm_is_no_event_of_now(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = [message(ago_s=3600), message(event="alarm_ended", ago_s=3590)]
    with running() as frigate:
        assert deliver(tmp_path / "new", f"frigate+http://{frigate.place}", *old) == 0
        (event,) = frigate.events.values()
        assert time.time() - event["start_time"] == pytest.approx(3601.5, abs=5)
        assert event["end_time"] - event["start_time"] == pytest.approx(11.5, abs=2)
    with running(version="0.16.2-4d58206") as frigate:
        assert deliver(tmp_path / "old", f"frigate+http://{frigate.place}", *old) == 2
        assert not frigate.events
        assert "takes no event of the past" in caplog.text
        late = [message(2, ago_s=30), message(2, event="alarm_ended", ago_s=20)]
        assert deliver(tmp_path / "late", f"frigate+http://{frigate.place}", *late) == 0
        (event,) = frigate.events.values()
        assert event["end_time"] > event["start_time"], "its end is not before its begin"


def test_users(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    users = {"cam": ("p@ss/w?rd", "admin"), "guest": ("12345678", "viewer")}
    with running(users=users) as frigate:
        place = frigate.place
        assert deliver(tmp_path / "url", f"frigate+http://cam:p%40ss%2Fw%3Frd@{place}", message(1)) == 0
        assert deliver(tmp_path / "secret", f"frigate+http://cam@{place}", message(2), secret="p@ss/w?rd") == 0
        assert len(frigate.events) == 2
        for user, why in (
            ("", "wants a user"),
            ("cam:wrong-one@", "401 to the login: wrong user or password"),
            ("guest:12345678@", "not authorized. Required: admin: the user needs Frigate's role admin"),
        ):
            folder = tmp_path / f"refused{len(user)}"
            with open_delivery(folder, f"frigate+http://{user}{place}") as box:
                box.put("a-alarm", message(3))
                until = time.monotonic() + 20
                while why not in caplog.text and time.monotonic() < until:
                    time.sleep(0.02)
                assert why in caplog.text
            assert len(list(folder.glob("*.json"))) == 1, "it waits for the right user"
        assert "wrong-one" not in caplog.text
        with open_delivery(tmp_path / "token", f"frigate+http://cam@{place}", "p@ss/w?rd") as box:
            box.put("1", message(4))
            assert box.drain(20) == 0
            frigate.tokens.clear()  # Frigate's tokens last a day
            box.put("2", message(5))
            assert box.drain(20) == 0
        assert len(frigate.events) == 4


def test_https_is_verified(tmp_path: Path, certificate: Path, caplog: pytest.LogCaptureFixture) -> None:  # noqa: F811
    with running(users={"cam": ("12345678", "admin")}, certificate=certificate) as frigate:
        url = f"frigate+https://cam:12345678@{frigate.place}"
        with open_delivery(tmp_path / "outbox", url) as box:
            box.put("a-alarm", message())
            assert wait_until(lambda: "certificate verify failed" in caplog.text, 20)
        assert not frigate.asked
        assert deliver(tmp_path / "outbox", f"{url}?ca={certificate}") == 0
        assert len(frigate.events) == 1


@pytest.mark.parametrize("base", ["/other", "/api"])
def test_another_server_loses_nothing(
    frigate: FrigateServer, tmp_path: Path, base: str, caplog: pytest.LogCaptureFixture
) -> None:
    with open_delivery(tmp_path, f"frigate+http://{frigate.place}{base}") as box:
        box.put("a-alarm", message())
        assert box.drain(0.3) == 1
    assert "404 is no answer of Frigate: is this its address?" in caplog.text


@pytest.mark.parametrize("code", [302, 400, 404, 405, 413])
def test_an_answer_of_something_else_loses_nothing(
    frigate: FrigateServer, tmp_path: Path, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as a proxy, or the port of HTTPS asked without it (nginx: 400)."""
    frigate.script = [code]
    assert deliver(tmp_path, f"frigate+http://{frigate.place}", message()) == 0
    assert len(frigate.events) == 1
    assert f"{code}" in caplog.text


@pytest.mark.parametrize(
    ("query", "why"),
    [("?colour=red", "colour"), ("?duration=soon", "whole seconds"), ("?include_recording=1", "true or false")],
)
def test_a_wrong_address_is_told_at_once(query: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=why), open_delivery(tmp_path, f"frigate+http://frigate:5000/{query}"):
        pass
    with (
        pytest.raises(InputError, match="authority"),
        open_delivery(tmp_path, f"frigate+https://frigate:8971?ca={tmp_path}/none.pem"),
    ):
        pass


def test_a_sub_label_has_no_signs_of_its_search() -> None:
    named = sub_label("k", message(rule="*?[x],y" * 20, person=10**30, id="ü*,?" * 50))
    assert len(named) <= 100
    assert not set(named) & set(",*?[]")
