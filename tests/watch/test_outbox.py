"""Alarms reach a webhook, whatever happens on the way: a real HTTP server that fails, a process that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from posewatch.errors import InputError
from posewatch.watch.sinks import outbox
from posewatch.watch.sinks.outbox import Outbox
from posewatch.watch.sinks.webhook import SIGNATURE, sign, verify


class Receiver(ThreadingHTTPServer):
    """Answers with the codes of ``script``, then 204; keeps (path, headers, body)."""

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


def test_a_message_is_tried_again_until_it_is_taken(receiver: Receiver, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(outbox, "FIRST_S", 0.02)
    receiver.script, said = [503, 500, 429], []
    with Outbox(tmp_path, receiver.url, "key", say=said.append) as box:
        box.put("a", {"n": 1, "where": "Tür"})
        box.put("b", {"n": 2})
        assert box.drain(20) == 0
        assert (box.delivered, box.failures) == (2, 3)
    bodies = [json.loads(body) for _, body in receiver.got]
    assert bodies == [{"n": 1, "where": "Tür"}] * 4 + [{"n": 2}]  # in order: the second waits for the first
    assert [headers["Idempotency-Key"] for headers, _ in receiver.got] == ["a"] * 4 + ["b"]
    headers, body = receiver.got[-1]
    assert verify(body, b"key", headers[SIGNATURE])
    assert not verify(body, b"other", headers[SIGNATURE])
    assert not verify(body + b" ", b"key", headers[SIGNATURE])
    assert len(said) == 3
    assert "answered 503" in said[0]


def test_old_or_broken_signatures_are_not_believed() -> None:
    made = sign(b"x", b"key", 1000)
    assert verify(b"x", b"key", made, now=1200)
    assert not verify(b"x", b"key", made, now=1400)
    assert not verify(b"x", b"key", "v1=abc", now=1000)


def test_what_the_receiver_refuses_holds_up_nothing(receiver: Receiver, tmp_path: Path) -> None:
    receiver.script, said = [400], []
    with Outbox(tmp_path, receiver.url, say=said.append) as box:
        box.put("bad", {"n": 1})
        (tmp_path / "00000000000000000001-broken.json").write_text("not json")
        box.put("good", {"n": 2})
        assert box.drain(20) == 0
    assert SIGNATURE not in receiver.got[0][0]
    assert [json.loads(body)["n"] for _, body in receiver.got] == [1, 2]
    assert len(list((tmp_path / "refused").iterdir())) == 2
    assert any("answered 400" in line for line in said)


_PUTS = """
import sys, time
from pathlib import Path
from posewatch.watch.outbox import Outbox
with Outbox(Path(sys.argv[1]), sys.argv[2], say=lambda line: None) as box:
    for n in range(3):
        box.put(f"m{n}", {"n": n})
    print("put", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_loses_nothing(receiver: Receiver, tmp_path: Path) -> None:
    away = "http://127.0.0.1:9/nobody"
    with subprocess.Popen([sys.executable, "-c", _PUTS, str(tmp_path), away], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"put\n"
        with pytest.raises(InputError, match="in use by another watcher"), Outbox(tmp_path, receiver.url):
            pass
        other.send_signal(signal.SIGKILL)
    with Outbox(tmp_path, receiver.url) as box:
        assert box.drain(20) == 0
    assert [json.loads(body)["n"] for _, body in receiver.got] == [0, 1, 2]


def test_an_end_does_not_wait_for_a_receiver_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FIRST_S", 600)
    monkeypatch.setattr(outbox, "TIMEOUT_S", 60)
    began = time.monotonic()
    with Outbox(tmp_path, "http://127.0.0.1:9/nobody", say=lambda line: None) as box:
        box.put("a", {})
        assert box.drain(0.2) == 1
    assert time.monotonic() - began < outbox.TIMEOUT_S
    assert len(list(tmp_path.glob("*.json"))) == 1
    with pytest.raises(InputError, match="a webhook is an address"):
        Outbox(tmp_path, "ftp://x")
