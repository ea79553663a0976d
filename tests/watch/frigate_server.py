"""A server that answers as Frigate's API does (frigate/api/{auth,event}.py and events/maintainer.py of 0.14 to 0.18).

As there, a new event is answered before it is written, an event that is not written cannot be ended, a camera that is
unknown is a 404 with a message, a role other than admin a 403 with a detail, and a body of another shape a 422.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BODY = {
    "sub_label": (str, type(None)),
    "score": (int, float, type(None)),
    "duration": (int, type(None)),
    "include_recording": (bool, type(None)),
    "draw": (dict, type(None)),
    "pre_capture": (int, type(None)),
}
"""EventsCreateBody of 0.18; earlier ones have no ``pre_capture`` and ignore what they do not know."""
PRE_CAPTURE_S = 5.0
"""``record.event_pre_capture``, by default."""


class FrigateServer(ThreadingHTTPServer):
    """``users`` {user: (password, role)}: none is the internal port, where everybody is admin."""

    def __init__(
        self,
        version: str = "0.18.0-e3fa701",
        users: dict[str, tuple[str, str]] | None = None,
        certificate: Path | None = None,
    ) -> None:
        self.version, self.users = version, users or {}
        self.cameras = {"hall", "front_door"}
        self.events: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.script: list[int] = []
        """Statuses (0: takes the request and hangs up without an answer) of the next requests that change something."""
        self.hidden = 0
        """Requests for which new events are not there yet."""
        super().__init__(("127.0.0.1", 0), _Answer)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        """A caller that does not trust the certificate hangs up."""

    def create(self, camera: str, label: str, body: dict[str, Any]) -> str:
        now = time.time()
        event = f"{now:.6f}-{len(self.events):06d}"
        before = body.get("pre_capture") if self.version >= "0.18" else None
        duration = body.get("duration", 30)
        self.events[event] = {
            "id": event, "camera": camera, "label": label, "sub_label": body.get("sub_label"),
            "start_time": now - (PRE_CAPTURE_S if before is None else before),
            "end_time": None if duration is None else now + duration,
            "has_clip": body.get("include_recording", True),
            "data": {"score": body.get("score", 0), "type": "api"},
        }  # fmt: skip
        return event

    def written(self) -> dict[str, dict[str, Any]]:
        if self.hidden > 0:
            self.hidden -= 1
            return {}
        return self.events


class _Answer(BaseHTTPRequestHandler):
    server: FrigateServer

    def do_GET(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def do_PUT(self) -> None:
        self._do()

    def log_message(self, *_: Any) -> None: ...

    def _say(self, code: int, content: Any, **headers: str) -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _no(self, code: int, message: str) -> None:
        self._say(code, {"success": False, "message": message})

    def _do(self) -> None:
        server, url = self.server, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.asked.append((self.command, self.path))
        if url.path == "/api/version":
            return self._say(200, server.version)
        if url.path == "/api/login":
            return self._login(json.loads(body))
        role = "admin"
        if server.users:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if token not in server.tokens:
                return self._say(401, "", location="/login")
            role = server.tokens[token]
        if url.path == "/api/events" and self.command == "GET":
            return self._list({name: values[-1] for name, values in parse_qs(url.query).items()})
        create = re.fullmatch(r"/api/events/([^/]+)/([^/]+)/create", url.path)
        end = re.fullmatch(r"/api/events/([^/]+)/end", url.path)
        if not (create and self.command == "POST") and not (end and self.command == "PUT"):
            return self._say(404, {"detail": "Not Found"})
        if role != "admin":
            return self._say(403, {"detail": f"Role {role} not authorized. Required: admin"})
        code = server.script.pop(0) if server.script else 200
        if code not in (0, 200):
            return self._say(code, "")
        if create:
            self._create(unquote(create[1]), unquote(create[2]), json.loads(body), hang_up=code == 0)
        elif end:
            self._end(unquote(end[1]), json.loads(body))

    def _login(self, body: dict[str, str]) -> None:
        password, role = self.server.users.get(body["user"], ("", ""))
        if not role or password != body["password"]:
            return self._say(401, {"message": "Login failed"})
        token = f"eyJ.{len(self.server.tokens)}.{body['user']}"
        self.server.tokens[token] = role
        return self._say(200, "", Set_Cookie=f"frigate_token={token}; HttpOnly; Path=/; SameSite=lax")

    def _list(self, query: dict[str, str]) -> None:
        rows = [
            row for row in self.server.written().values()
            if row["camera"] in query["cameras"].split(",") and row["label"] in query["labels"].split(",")
            and str(row["sub_label"]).lower() in query["sub_labels"].lower().split(",")
        ]  # fmt: skip
        self._say(200, rows[: int(query["limit"])])

    def _create(self, camera: str, label: str, body: dict[str, Any], *, hang_up: bool) -> None:
        if wrong := [name for name, kinds in BODY.items() if name in body and not isinstance(body[name], kinds)]:
            return self._say(422, {"detail": [{"loc": ["body", wrong[0]]}]})
        if camera not in self.server.cameras:
            return self._no(404, f"{camera} is not a valid camera.")
        event = self.server.create(camera, label, body)
        if hang_up:
            self.close_connection = True
            return None
        return self._say(200, {"success": True, "message": "Successfully created event.", "event_id": event})

    def _end(self, event: str, body: dict[str, Any]) -> None:
        row = self.server.written().get(event)
        if row is None:
            return self._no(404, f"Event {event} not found.")
        if body["end_time"] is not None and body["end_time"] < row["start_time"]:
            return self._no(400, f"end_time ({body['end_time']}) cannot be before start_time ({row['start_time']}).")
        row["end_time"] = body["end_time"] or time.time()
        return self._say(200, {"success": True, "message": "Event successfully ended."})


def serving(server: FrigateServer) -> threading.Thread:
    """Serve from a thread, until ``server.shutdown()``."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    return thread
