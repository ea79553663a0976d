"""Messages for a SIEM: CEF in syslog lines (RFC 5424) over UDP, TCP (RFC 6587, octet counting) or TLS (RFC 5425)."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from posewatch import __version__
from posewatch.addresses import Address
from posewatch.errors import InputError
from posewatch.watch import tls
from posewatch.watch.payload import RAISED
from posewatch.watch.sinks.delivery import Transport, Unavailable

PORTS = {"syslog": 514, "syslog+tcp": 601, "syslog+tls": 6514}
FACILITY, ALERT, NOTICE = 16, 1, 5
"""local0; the severities of an alarm and of its end."""
CEF_SEVERITY = {True: 8, False: 3}
_UDP_BYTES = 60_000
_CLOSED = 7
"""TCP_CLOSE of Linux: both sides have closed and acknowledged that, or one has reset the connection."""


def cef(message: Mapping[str, Any], key: str) -> str:
    """The message in ArcSight's Common Event Format, in one line whatever the names hold."""
    raised = message.get("event") == RAISED
    name = f"{message.get('label', 'alarm')} {'began' if raised else 'ended'}"
    header = ["posewatch", "posewatch", __version__, str(message.get("event", "alarm")), name, CEF_SEVERITY[raised]]
    fields = {
        "externalId": key,
        "dvchost": message.get("source"),
        "rt": _milliseconds(message.get("time")),
        "cat": message.get("rule"),
        "cs1Label": "alarm",
        "cs1": message.get("id"),
        "cfp1Label": "probability",
        "cfp1": message.get("probability"),
        "cn1Label": "person" if message.get("person") is not None else None,
        "cn1": message.get("person"),
        "cs2Label": "model",
        "cs2": " ".join(str(part) for part in (message.get("model") or {}).values()),
    }
    extension = " ".join(f"{name}={_escaped(value, '=')}" for name, value in fields.items() if value not in (None, ""))
    return f"CEF:0|{'|'.join(_escaped(part, '|') for part in header)}|{extension}"


def line(message: Mapping[str, Any], key: str, host: str) -> bytes:
    """The syslog message: priority, time, host, program, process, kind, no structured data, BOM and CEF."""
    raised = message.get("event") == RAISED
    priority = FACILITY * 8 + (ALERT if raised else NOTICE)
    at = _time(message.get("time"))
    kind = re.sub(r"[^!-~]", "", str(message.get("event", "alarm")))[:32] or "-"
    head = f"<{priority}>1 {at} {re.sub(r'[^!-~]', '', host)[:255] or '-'} posewatch {os.getpid()} {kind} - "
    return head.encode() + b"\xef\xbb\xbf" + cef(message, key).encode(errors="replace")


class Syslog(Transport):
    """Sends to ``syslog://host[:514]`` (UDP), ``syslog+tcp://host[:601]`` or ``syslog+tls://host[:6514]``,
    to which ``?ca=FILE&cert=FILE&key=FILE`` may be added (`tls.OPTIONS`).

    Syslog has no answers. Over TCP and TLS each message has a connection of its own, and counts as taken when the
    receiver has closed it without an error, so that one of a receiver that dies is sent again; UDP promises nothing.
    """

    timeout_s = 10.0

    def __init__(self, url: str, secret: str = "") -> None:
        address = Address.parse(url)
        scheme = address.scheme.lower()
        options = {name: values[-1] for name, values in parse_qs(address.query[1:]).items()}
        if address.user or address.path.strip("/") or set(options) - {*tls.OPTIONS}:
            raise InputError(
                "a syslog receiver is an address such as syslog+tls://host:6514 (with ?ca=FILE&cert=FILE&key=FILE)"
            )
        match = re.fullmatch(r"(.*?)(?::(\d+))?", address.place)
        assert match is not None
        self._host, self._port, self._scheme = match[1].strip("[]"), int(match[2] or PORTS[scheme]), scheme
        self._context = tls.context_of(options, "syslog") if scheme == "syslog+tls" else None
        self.name = f"syslog {address.place}"

    def send(self, key: str, message: Mapping[str, Any]) -> None:
        data = line(message, key, socket.gethostname())
        try:
            if self._scheme == "syslog":
                self._datagram(data[:_UDP_BYTES])
            else:
                self._stream(b"%d %s" % (len(data), data))
        except OSError as error:
            raise Unavailable(error.strerror or str(error) or type(error).__name__) from None

    def _datagram(self, data: bytes) -> None:
        kind, _, _, _, place = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind, socket.SOCK_DGRAM) as sender:
            sender.sendto(data, place)

    def _stream(self, data: bytes) -> None:
        with socket.create_connection((self._host, self._port), self.timeout_s) as plain:
            if self._context is not None:
                try:
                    self._secured(plain, data, self._context)
                except ssl.SSLZeroReturnError:  # the receiver has read everything when it says goodbye, too
                    return
                except ssl.SSLEOFError:  # rsyslog with GnuTLS only hangs up, also on a sender that it refuses
                    self._read(plain)
                return
            plain.sendall(data)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(4096):
                pass
            self._read(plain)

    def _secured(self, plain: socket.socket, data: bytes, context: ssl.SSLContext) -> None:
        """Send by TLS, say goodbye and wait for the receiver's (SSLZeroReturnError).

        ``SSLSocket.unwrap`` takes an alert for a goodbye, and an alert is all that a receiver says which refuses the
        certificate of this sender, with TLS 1.3 after the handshake.
        """
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = context.wrap_bio(incoming, outgoing, server_hostname=self._host)

        def exchange(step: Callable[[], object]) -> object:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    if part := plain.recv(65_536):
                        incoming.write(part)
                    else:
                        incoming.write_eof()

        exchange(secure.do_handshake)
        secure.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            secure.unwrap()
        plain.sendall(outgoing.read())
        while exchange(secure.read):
            pass

    def _read(self, connection: socket.socket) -> None:
        """Returns when a receiver that has hung up has read everything. Raises OSError when it had not: its system then
        resets the connection."""
        with contextlib.suppress(OSError):  # reset already
            connection.shutdown(socket.SHUT_WR)
        end = time.monotonic() + self.timeout_s
        while connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _CLOSED:
            if time.monotonic() > end:
                raise TimeoutError("the receiver does not say whether it has read the message")
            time.sleep(0.01)
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise ConnectionResetError(
                "the receiver hung up before it had read the message: does it refuse this sender?"
            )


def _escaped(value: object, sign: str) -> str:
    """Backslashes, ``sign`` and line ends escaped; other control characters left out."""
    text = str(value).replace("\\", "\\\\").replace(sign, f"\\{sign}")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\\n" if sign == "=" else " ")
    return re.sub(r"[\x00-\x1f\x7f\u0085\u2028\u2029]", " ", text)


def _time(text: object) -> str:
    """RFC 5424 has at most six digits of a second, and "-" for no time."""
    at = _moment(text)
    return "-" if at is None else at.isoformat(timespec="milliseconds")


def _milliseconds(text: object) -> int | None:
    """CEF has no other time with a year and a zone that all parsers take: milliseconds since 1970."""
    at = _moment(text)
    return None if at is None else round(at.timestamp() * 1000)


def _moment(text: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
