"""A browser in which somebody is signed in, as behind an identity proxy: every request carries what such a proxy adds.

Chromium sends extra headers with the handshake of a WebSocket since its version 151 only; for an older one, a small
forward proxy adds them.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import socketserver
import threading
from io import BufferedIOBase
from typing import Any
from urllib.parse import urlsplit

SENDS_ALL = 151
"""The first version of Chromium that needs no help."""
PATIENCE_S = 10.0


def new_context(browser: Any, headers: dict[str, str], **options: Any) -> Any:
    """A context of playwright's Chromium ``browser`` in which every request has ``headers``; closed as any other."""
    if not headers or int(browser.version.split(".")[0]) >= SENDS_ALL:
        return browser.new_context(extra_http_headers=headers, **options)
    proxy = HeaderProxy(headers)
    context = browser.new_context(proxy={"server": proxy.url, "bypass": "<-loopback>"}, **options)
    context.on("close", lambda _: proxy.stop())
    return context


class HeaderProxy(socketserver.ThreadingTCPServer):
    """A forward proxy for plain HTTP on a free port of this machine that adds ``headers`` to each request."""

    daemon_threads, block_on_close = True, False

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.lines = [f"{name}: {value}".encode() for name, value in headers.items()]
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Connection(socketserver.StreamRequestHandler):
    """One request of a browser, or the WebSocket for which it asks a tunnel."""

    server: HeaderProxy

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # either side may leave at any time
            self._forward()

    def _forward(self) -> None:
        head = _head(self.rfile)
        if not head:
            return
        method, target, version = head[0].split(b" ")
        if method == b"CONNECT":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            host, _, port = target.decode().rpartition(":")
            head = _head(self.rfile)
        else:
            parts = urlsplit(target.decode())
            host, port = parts.hostname or "", str(parts.port or 80)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            head[0] = b" ".join((method, path.encode(), version))
            # a connection is for one request, so that only its head has to be read
            head = [line for line in head if not line.lower().startswith((b"connection:", b"proxy-"))]
            head.append(b"Connection: close")
        with socket.create_connection((host, int(port)), PATIENCE_S) as upstream:
            upstream.settimeout(None)
            upstream.sendall(b"\r\n".join([*head, *self.server.lines, b"", b""]))
            sender = threading.Thread(target=_pass_on, args=(self.rfile, upstream), daemon=True)
            sender.start()
            try:
                with upstream.makefile("rb", buffering=0) as answers:
                    shutil.copyfileobj(answers, self.wfile, 1 << 16)
            finally:
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
                sender.join()


def _head(stream: BufferedIOBase) -> list[bytes]:
    """The lines of a request's head; none if the other side has left."""
    lines = []
    while line := stream.readline(1 << 16).rstrip(b"\r\n"):
        lines.append(line)
    return lines


def _pass_on(stream: Any, upstream: socket.socket) -> None:
    """What the browser sends, until it leaves."""
    with contextlib.suppress(OSError, ValueError):
        while part := stream.read1(1 << 16):
            upstream.sendall(part)
        upstream.shutdown(socket.SHUT_WR)
