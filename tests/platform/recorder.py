"""A proxy in front of the stand-in API server: it notes which rights were used, and keeps the pods' logs."""

from __future__ import annotations

import http.client
import re
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/[^/]+/namespaces/[^/]+/(?P<resource>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[^/]+))?)?"
)


class Recorder(ThreadingHTTPServer):
    """``used`` are (group, resource, verb) as RBAC would have been asked; ``logs`` maps a pod to (timestamp, line)s."""

    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urlsplit(url).netloc
        self.used: set[tuple[str, str, str]] = set()
        self.logs: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.queries: list[str] = []
        self.down = 0
        """So many requests are answered with 503 first."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def log_message(self, *_: Any) -> None:
        pass

    def _go(self) -> None:
        parts = urlsplit(self.path)
        if self.server.down > 0:
            self.server.down -= 1
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        found = _PATH.fullmatch(parts.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if found and found["sub"] == "log":
            self._note(found, "get")
            status, data, kind = self._log(found["name"], parse_qs(parts.query))
        else:
            status, data, kind = self._pass_on(body)
            if found:
                self._note(found, self._verb(found, parse_qs(parts.query)))
                if self.command == "PATCH" and status == 201:
                    self._note(found, "create")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _go

    def _verb(self, found: re.Match[str], query: dict[str, list[str]]) -> str:
        if self.command == "GET":
            return "get" if found["name"] else "watch" if query.get("watch") else "list"
        verbs = {"POST": "create", "PUT": "update", "PATCH": "patch"}
        return verbs.get(self.command) or ("delete" if found["name"] else "deletecollection")

    def _note(self, found: re.Match[str], verb: str) -> None:
        resource = found["resource"] + (f"/{found['sub']}" if found["sub"] else "")
        self.server.used.add((found["group"] or "", resource, verb))

    def _log(self, pod: str, query: dict[str, list[str]]) -> tuple[int, bytes, str]:
        self.server.queries.append(self.path)
        since = query.get("sinceTime", [""])[0].rstrip("Z")
        lines = [f"{stamp} {line}\n" for stamp, line in self.server.logs[pod] if stamp[: len(since)] >= since]
        if query.get("timestamps") != ["true"] or query.get("container") != ["node"]:
            return 400, b"{}", "application/json"
        return 200, "".join(lines).encode(), "text/plain"

    def _pass_on(self, body: bytes) -> tuple[int, bytes, str]:
        there = http.client.HTTPConnection(self.server.behind, timeout=30)
        try:
            headers = {
                k: v for k, v in self.headers.items() if k.lower() in ("content-type", "accept", "authorization")
            }
            there.request(self.command, self.path, body or None, headers)
            answer = there.getresponse()
            return answer.status, answer.read(), answer.getheader("Content-Type", "application/json")
        finally:
            there.close()
