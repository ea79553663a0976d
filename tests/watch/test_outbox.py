"""Alarms reach a webhook over a real HTTP server that fails, and after the watching process was killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from posewatch.errors import InputError
from posewatch.watch.sinks import delivery
from posewatch.watch.sinks.delivery import Refused, Transport
from posewatch.watch.sinks.outbox import Outbox
from posewatch.watch.sinks.table import TRANSPORTS, open_delivery
from posewatch.watch.sinks.webhook import SIGNATURE, Webhook, sign, verify


class Receiver(ThreadingHTTPServer):
    """Answers with the status codes of ``script``, then 204; records (headers, body)."""

    def __init__(self) -> None:
        self.script: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/alarms"


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        code = server.script.pop(0) if server.script else 204
        server.got.append((dict(self.headers.items()), body))
        self.send_response(code)
        if code in (301, 302, 303, 307, 308):
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)  # as a page for people does
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_message_is_tried_again_until_it_is_taken(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivery, "FIRST_S", 0.02)
    receiver.script = [503, 302, 308, 429]
    with open_delivery(tmp_path, receiver.url, "key") as box:
        box.put("a", {"n": 1, "where": "Tür"})
        box.put("b", {"n": 2})
        assert box.drain(20) == 0
        assert (box.delivered, box.failures) == (2, 4)
    bodies = [json.loads(body) for _, body in receiver.got]
    assert bodies == [{"n": 1, "where": "Tür"}] * 5 + [{"n": 2}]  # in order: the second waits for the first
    assert [headers["Idempotency-Key"] for headers, _ in receiver.got] == ["a"] * 5 + ["b"]
    headers, body = receiver.got[-1]
    assert verify(body, b"key", headers[SIGNATURE])
    assert not verify(body, b"other", headers[SIGNATURE])
    assert not verify(body + b" ", b"key", headers[SIGNATURE])
    assert len(caplog.messages) == 4
    assert "answered 503" in caplog.messages[0]


def test_old_or_broken_signatures_are_not_believed() -> None:
    signature = sign(b"x", b"key", 1000)
    assert verify(b"x", b"key", signature, now=1200)
    assert not verify(b"x", b"key", signature, now=1400)
    assert not verify(b"x", b"key", "v1=abc", now=1000)


def test_what_the_receiver_refuses_holds_up_nothing(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.script = [400]
    with open_delivery(tmp_path, receiver.url) as box:
        box.put("bad", {"n": 1})
        (tmp_path / "00000000000000000001-broken.json").write_text("not json")
        box.put("good", {"n": 2})
        assert box.drain(20) == 0
    assert SIGNATURE not in receiver.got[0][0]
    assert [json.loads(body)["n"] for _, body in receiver.got] == [1, 2]
    assert len(list((tmp_path / "refused").iterdir())) == 2
    assert any("answered 400" in line for line in caplog.messages)


_PUTS = """
import sys, time
from pathlib import Path
from posewatch.watch.sinks.table import open_delivery
with open_delivery(Path(sys.argv[1]), sys.argv[2]) as box:
    for n in range(3):
        box.put(f"m{n}", {"n": n})
    print("put", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_loses_nothing(receiver: Receiver, tmp_path: Path) -> None:
    unavailable = "http://127.0.0.1:9/nobody"
    command = [sys.executable, "-c", _PUTS, str(tmp_path), unavailable]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"put\n"
        with pytest.raises(InputError, match="in use by another watcher"), open_delivery(tmp_path, receiver.url):
            pass
        other.send_signal(signal.SIGKILL)
    with open_delivery(tmp_path, receiver.url) as box:
        assert box.drain(20) == 0
    assert [json.loads(body)["n"] for _, body in receiver.got] == [0, 1, 2]


def test_messages_of_an_older_version_are_delivered(receiver: Receiver, tmp_path: Path) -> None:
    old = {"key": "1f0a-alarm", "message": {"event": "alarm", "id": "1f0a"}}
    (tmp_path / "01772356414120000000-1f0a-alarm.json").write_text(json.dumps(old))
    with open_delivery(tmp_path, receiver.url) as box:
        assert box.drain(20) == 0
    ((headers, body),) = receiver.got
    assert (headers["Idempotency-Key"], json.loads(body)) == (old["key"], old["message"])


def test_the_end_does_not_wait_for_an_unavailable_receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_S", 600)
    monkeypatch.setattr(delivery, "MAX_S", 600)
    monkeypatch.setattr(Webhook, "timeout_s", 60.0)
    began = time.monotonic()
    with open_delivery(tmp_path, "http://127.0.0.1:9/nobody") as box:
        box.put("a", {})
        assert box.drain(0.2) == 1
    assert time.monotonic() - began < Webhook.timeout_s
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_transport_is_one_row_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, Any]] = []

    class Broker(Transport):
        name, timeout_s = "broker", 1.0

        def __init__(self, url: str, secret: str) -> None:
            self.url = url

        def send(self, key: str, message: Mapping[str, Any]) -> None:
            if key == "bad":
                raise Refused("not wanted")
            sent.append((self.url, message))

    monkeypatch.setitem(TRANSPORTS, "mqtt", Broker)
    with open_delivery(tmp_path, "mqtt://broker/alarms") as box:
        box.put("bad", {"n": 1})
        box.put("good", {"n": 2})
        assert box.drain(20) == 0
    assert sent == [("mqtt://broker/alarms", {"n": 2})]


@pytest.mark.parametrize("url", ["ftp://x", "mailto:x", "https://"])
def test_an_address_that_no_transport_takes(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="a webhook is an address"), open_delivery(tmp_path, url):
        pass


def test_a_clock_that_was_set_back_changes_no_order(tmp_path: Path) -> None:
    """A small computer has no clock when it starts: what waits since before was put in an hour from now."""
    outbox = Outbox(tmp_path)
    outbox.put("first", {"n": 1})
    (path,) = outbox.messages()
    path.rename(path.with_name(f"{int(path.name[:20]) + 3600 * 10**9:020d}{path.name[20:]}"))
    outbox.close()
    outbox = Outbox(tmp_path)
    for key in ("second", "third"):
        outbox.put(key, {"n": 2})
    assert [outbox.read(path)[0] for path in outbox.messages()] == ["first", "second", "third"]
    outbox.close()
