"""Alarms as CloudEvents over HTTP, and as CEF in syslog lines over UDP, TCP and TLS."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from support import self_signed
from watch.test_outbox import Receiver, receiver  # noqa: F401

from posewatch.errors import InputError
from posewatch.stack.process import wait_until
from posewatch.watch.sinks import delivery
from posewatch.watch.sinks.delivery import Unavailable
from posewatch.watch.sinks.syslog import Syslog, cef, line
from posewatch.watch.sinks.table import open_delivery

MESSAGE = {
    "event": "alarm",
    "id": "1f0a",
    "source": "hall",
    "label": "abnormal",
    "probability": 0.9312,
    "time": "2026-11-26T15:04:05.123+00:00",
    "model": {"name": "protogcn", "version": "3"},
}
HOSTILE = {**MESSAGE, "source": 'a|b=c\\d\r\nCEF:0|x \u2028"]\x00ü', "person": 2, "event": "alarm_ended"}
RFC5424 = re.compile(
    rb"<(?P<pri>\d{1,3})>1 (?P<time>-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)) "
    rb"(?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<proc>[!-~]{1,128}) (?P<id>[!-~]{1,32}) - "
    rb"\xef\xbb\xbf(?P<text>.*)",
    re.DOTALL,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_S", 0.02)
    monkeypatch.setattr(delivery, "MAX_S", 0.05)


def test_cloudevents(receiver: Receiver, tmp_path: Path) -> None:  # noqa: F811
    receiver.script = [503]
    with open_delivery(tmp_path, f"cloudevents+{receiver.url}", "key") as box:
        box.put("1f0a-alarm", MESSAGE)
        box.put("1f0a-alarm_ended", HOSTILE)
        assert box.drain(20) == 0
    headers, body = receiver.got[-2]
    assert headers["Content-Type"].startswith("application/cloudevents+json")
    assert "X-Posewatch-Signature" in headers
    assert json.loads(body) == {
        "specversion": "1.0",
        "id": "1f0a-alarm",
        "source": "/cameras/hall",
        "type": "io.posewatch.alarm",
        "subject": "1f0a",
        "time": MESSAGE["time"],
        "datacontenttype": "application/json",
        "data": MESSAGE,
    }
    event = json.loads(receiver.got[-1][1])
    assert event["type"] == "io.posewatch.alarm_ended"
    assert re.fullmatch(r"/cameras/[A-Za-z0-9%._~-]+", event["source"]), "a URI reference, whatever the name holds"
    assert event["data"] == HOSTILE
    assert json.loads(receiver.got[0][1])["id"] == "1f0a-alarm", "the same id when it is sent again"


@pytest.mark.parametrize("message", [MESSAGE, HOSTILE, {}, {"event": "x y", "time": "soon"}])
def test_a_line_is_one_line_that_a_parser_reads(message: dict[str, Any]) -> None:
    found = RFC5424.fullmatch(line(message, "key", "my host"))
    assert found is not None
    assert int(found["pri"]) == (129 if message.get("event") == "alarm" else 133)
    text = found["text"].decode()
    assert not re.search(r"[\x00-\x1f\u2028]", text)
    header = re.split(r"(?<!\\)\|", text, maxsplit=7)
    assert header[:3] == ["CEF:0", "posewatch", "posewatch"]
    assert len(header) == 8
    pairs = dict(re.findall(r"(\w+)=((?:\\.|[^\\=])*?)(?= \w+=|$)", header[7]))
    assert pairs["externalId"] == "key"
    if message is HOSTILE:
        assert pairs["dvchost"].startswith("a|b\\=c\\\\d\\nCEF:0|x")
        assert pairs["cn1"] == "2"


def test_cef_of_an_alarm() -> None:
    """Its time is in milliseconds since 1970: parsers (Filebeat's decode_cef, say) refuse ISO 8601 there."""
    assert cef(MESSAGE, "k").endswith(
        "|alarm|abnormal began|8|externalId=k dvchost=hall rt=1795705445123 cs1Label=alarm cs1=1f0a "
        "cfp1Label=probability cfp1=0.9312 cs2Label=model cs2=protogcn 3"
    )
    assert " rt=" not in cef({**MESSAGE, "time": "soon"}, "k")


class Collector(threading.Thread):
    """Takes octet-counted lines; the first ``drop`` connections are reset instead. With ``leave`` it says no goodbye
    in TLS, and hangs up on the first ``leave`` connections before it has read anything."""

    def __init__(self, drop: int = 0, context: ssl.SSLContext | None = None, leave: int | None = None) -> None:
        super().__init__(daemon=True)
        self.got: list[bytes] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port, self.drop, self.context, self.leave = self.server.getsockname()[1], drop, context, leave
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            if self.drop:
                self.drop -= 1
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                connection.close()
                continue
            try:
                if self.context is not None:
                    connection = self.context.wrap_socket(connection, server_side=True)
                if self.leave:
                    self.leave -= 1
                    connection.close()
                    continue
                with connection:
                    data = b""
                    while part := connection.recv(4096):
                        data += part
                    if self.context is not None and self.leave is None:
                        connection = connection.unwrap()  # type: ignore[attr-defined]
                        connection.close()
            except (OSError, ssl.SSLError):
                connection.close()
                continue
            size, _, rest = data.partition(b" ")
            assert int(size) == len(rest)
            self.got.append(rest)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "both.pem"
    path.write_bytes(b"".join(part.read_bytes() for part in self_signed(tmp_path)))
    return path


def three_arrive(tmp_path: Path, collector: Collector, url: str) -> None:
    """Three alarms, each once and in order, though the first two tries fail."""
    with open_delivery(tmp_path / "outbox", url) as box:
        for number in range(3):
            box.put(f"a{number}", {**MESSAGE, "id": f"a{number}"})
        assert box.drain(20) == 0
        assert box.failures == 2
    collector.server.close()
    assert [re.search(rb"externalId=(\w+)", one)[1] for one in collector.got] == [b"a0", b"a1", b"a2"]  # type: ignore[index]


def test_lines_over_tcp_arrive_though_the_receiver_drops_connections(tmp_path: Path) -> None:
    collector = Collector(drop=2)
    three_arrive(tmp_path, collector, f"syslog+tcp://127.0.0.1:{collector.port}")


def test_lines_over_tls(tmp_path: Path, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    collector = Collector(context=context)
    place = f"syslog+tls://127.0.0.1:{collector.port}"
    with open_delivery(tmp_path / "outbox", place) as box:
        box.put("a", MESSAGE)
        while not box.failures:
            assert box.drain(0.05) == 1, "an unknown authority"
    with open_delivery(tmp_path / "outbox", f"{place}?ca={tmp_path / 'certificate.pem'}") as box:
        assert box.drain(20) == 0
    collector.server.close()
    assert len(collector.got) == 1


def test_the_certificate_is_read_again_for_each_connection(tmp_path: Path, certificate: Path) -> None:
    """It is renewed while the watcher runs."""
    (tmp_path / "other").mkdir()
    stranger, own = self_signed(tmp_path / "other"), tmp_path / "own.pem"
    own.write_bytes(b"".join(part.read_bytes() for part in stranger))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    collector = Collector(context=context)
    url = f"syslog+tls://127.0.0.1:{collector.port}?ca={tmp_path / 'certificate.pem'}&cert={own}"
    with open_delivery(tmp_path / "outbox", url) as box:
        box.put("a", MESSAGE)
        while not box.failures:
            assert box.drain(0.05) == 1, "it wants another"
        own.write_bytes(certificate.read_bytes())
        assert box.drain(20) == 0
    collector.server.close()
    assert len(collector.got) == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_receiver_that_refuses_the_certificate_has_not_taken_the_message(
    version: ssl.TLSVersion, tmp_path: Path, certificate: Path
) -> None:
    """With TLS 1.3 it does so after the handshake, by an alert that OpenSSL takes for a goodbye: one try in fifteen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = version
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    collector = Collector(context=context)
    url = f"syslog+tls://127.0.0.1:{collector.port}?ca={tmp_path / 'certificate.pem'}"
    stranger, own = Syslog(url), Syslog(f"{url}&cert={certificate}")
    for _ in range(100):
        with pytest.raises(Unavailable):
            stranger.send("a", MESSAGE)
    own.send("a", MESSAGE)
    assert wait_until(lambda: len(collector.got) == 1, 20)
    collector.server.close()


@pytest.mark.parametrize("tls", [True, False])
def test_a_receiver_that_only_hangs_up(tls: bool, tmp_path: Path, certificate: Path) -> None:
    """As rsyslog does with GnuTLS, also on a sender that it refuses; as a proxy without a receiver behind it does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
    if context is not None:
        context.load_cert_chain(certificate)
    collector = Collector(context=context, leave=2)
    scheme, query = ("syslog+tls", f"?ca={tmp_path / 'certificate.pem'}") if tls else ("syslog+tcp", "")
    three_arrive(tmp_path, collector, f"{scheme}://127.0.0.1:{collector.port}{query}")


RSYSLOG = shutil.which("rsyslogd") or shutil.which("/usr/sbin/rsyslogd")
GNUTLS = next(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so"), None)


@pytest.mark.parametrize(("mode", "own"), [("anon", False), ("x509/certvalid", False), ("x509/certvalid", True)])
def test_rsyslog_with_gnutls(mode: str, own: bool, tmp_path: Path, certificate: Path) -> None:
    if RSYSLOG is None or GNUTLS is None:
        pytest.skip("no rsyslog with GnuTLS here (apt-get install rsyslog rsyslog-gnutls)")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    files = {"CAFile": tmp_path / "certificate.pem", "CertFile": tmp_path / "certificate.pem", "KeyFile": certificate}
    config, got = tmp_path / "rsyslog.conf", tmp_path / "got"
    config.write_text(
        "global(" + " ".join(f'defaultNetstreamDriver{name}="{path}"' for name, path in files.items()) + ")\n"
        f'module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="{mode}")\n'
        f'input(type="imtcp" address="127.0.0.1" port="{port}")\naction(type="omfile" file="{got}")\n'
    )
    process = subprocess.Popen(
        [RSYSLOG, "-n", "-f", config, "-i", tmp_path / "pid"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"syslog+tls://127.0.0.1:{port}?ca={tmp_path / 'certificate.pem'}"
        url += f"&cert={tmp_path / 'certificate.pem'}&key={certificate}" if own else ""
        taken = own or mode == "anon"
        with open_delivery(tmp_path / "outbox", url) as box:
            for number in range(3):
                box.put(f"a{number}", {**MESSAGE, "id": f"a{number}"})
            if taken:
                assert box.drain(20) == 0
            else:  # it wants a certificate of ours, and says so nowhere
                assert box.drain(2) == 3
    finally:
        process.terminate()
        process.wait(30)
    lines = got.read_text().splitlines() if got.exists() else []
    assert [re.search(r"externalId=(\w+)", one)[1] for one in lines] == (  # type: ignore[index]
        ["a0", "a1", "a2"] if taken else []
    )


def test_lines_over_udp(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(10)
        with open_delivery(tmp_path / "outbox", f"syslog://127.0.0.1:{collector.getsockname()[1]}") as box:
            box.put("a", MESSAGE)
            assert box.drain(20) == 0
        assert RFC5424.fullmatch(collector.recv(65_536))


@pytest.mark.parametrize(
    "url",
    [
        "syslog://user@host", "syslog+tls://host?ca=/no/such/file", "syslog://host/path", "syslog+tls://host?retain=1",
        "syslog+tls://host?cert=/no/such/file", "syslog+tls://host?key=/etc/hostname",
    ],
)  # fmt: skip
def test_addresses_that_are_wrong(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError), open_delivery(tmp_path, url):
        pass
