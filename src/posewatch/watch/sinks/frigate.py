"""Alarms as events of Frigate (0.14 to 0.18), through its create-event API: created when raised, ended with the alarm.

That API takes no key, so an event carries the alarm's id in its sub label: before one is created, and to end it, it is
looked up by that. Hence an alarm whose answer was lost, or whose sender was killed, is not created again.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode

from posewatch.addresses import Address
from posewatch.errors import InputError
from posewatch.posts import NoRedirect
from posewatch.redact import remember_secret
from posewatch.watch.payload import RAISED
from posewatch.watch.sinks.delivery import Refused, Transport, Unavailable

SCHEMES = {"frigate+http": "http", "frigate+https": "https"}
OPTIONS = ("ca", "camera", "label", "duration", "include_recording")
LATE_S = 60.0
"""An alarm of longer ago is an event at the wrong time for a Frigate that takes no ``pre_capture``."""
PRE_CAPTURE = (0, 18)
"""The version of Frigate that takes the seconds an event began before it is created."""
LOOKS = 6
"""Times that an event is looked for before it is said to be none: Frigate answers before it has written a new one."""


class Frigate(Transport):
    """Creates events at ``frigate+http://[user[:password]@]host[:port][/base][?camera=NAME&label=NAME&...]``.

    With a user it logs in (the role must be admin; ``secret`` is the password of an address without one); without, the
    port must be Frigate's internal one (5000). ``camera`` and ``label`` stand for the names in the messages;
    ``duration`` (seconds) makes events of that length, which are not ended; ``include_recording=false`` keeps no
    recording for them. ``ca`` is the authority of an https address. Raises InputError.
    """

    def __init__(self, url: str, secret: str = "") -> None:
        address = Address.parse(url)
        options = {name: values[-1] for name, values in parse_qs(address.query[1:], keep_blank_values=True).items()}
        if unknown := [name for name in options if name not in OPTIONS]:
            raise InputError(f"a frigate address has no option {unknown[0]!r} (known: {', '.join(OPTIONS)})")
        if not (address.place + address.path).isascii() or not address.place:
            raise InputError("a frigate address is such as frigate+http://frigate:5000?camera=front_door")
        self._camera, self._label = options.get("camera", ""), options.get("label", "")
        self._duration = _seconds(options.get("duration", ""))
        recording = options.get("include_recording", "true")
        if recording not in ("true", "false"):
            raise InputError(f"include_recording of a frigate address is true or false, not {recording!r}")
        self._recording = recording == "true"
        scheme = SCHEMES[address.scheme.lower()]
        self._api = f"{scheme}://{address.place}{address.path.rstrip('/')}/api"
        user, _, password = address.user.partition(":")
        self._user, self._password = unquote(user), unquote(password) or secret
        remember_secret(self._password)
        self._token = ""
        self.name = f"Frigate {address.place}"
        handlers: list[urllib.request.BaseHandler] = [NoRedirect()]
        if scheme == "https":
            try:
                context = ssl.create_default_context(cafile=options.get("ca"))
            except (OSError, ssl.SSLError) as error:
                raise InputError(f"the authority of the frigate address (ca) cannot be read: {error}") from None
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)
        self._events: dict[str, str] = {}
        self._looks: dict[str, int] = {}

    def send(self, key: str, message: Mapping[str, Any]) -> None:
        camera = self._camera or str(message.get("source", ""))
        if not re.fullmatch(r"[A-Za-z0-9_-]+", camera):  # Frigate's own rule: such a name is never part of a URL
            raise Refused("Frigate has no camera of such a name: say which one it is there, ?camera=NAME")
        label = re.sub(r"[^\w -]", "_", self._label or str(message.get("label", ""))).strip() or "alarm"
        named = sub_label(key, message)
        if message.get("event") == RAISED:
            self._create(camera, label, named, message)
        elif self._duration is None:
            self._end(camera, label, named, message)

    def _create(self, camera: str, label: str, named: str, message: Mapping[str, Any]) -> None:
        if self._find(camera, label, named):
            return
        since = max(0.0, time.time() - _began(message))
        if since > LATE_S and self._version() < PRE_CAPTURE:
            raise Refused(f"the alarm began {since:.0f} s ago, and Frigate before 0.18 takes no event of the past")
        content = {
            "sub_label": named,
            "score": message.get("probability", 0),
            "duration": self._duration,
            "include_recording": self._recording,
            "pre_capture": round(since),
        }
        path = f"/events/{quote(camera)}/{quote(label, safe='')}/create"
        answer = self._json(self._ask("POST", path, content))
        if not isinstance(answer, dict) or not isinstance(answer.get("event_id"), str):
            raise Unavailable("the answer to a new event is not Frigate's: is this its address?")
        self._events[named] = answer["event_id"]

    def _end(self, camera: str, label: str, named: str, message: Mapping[str, Any]) -> None:
        event = self._events.get(named) or self._find(camera, label, named)
        if not event:
            self._absent(named)
            return
        path, at = f"/events/{quote(event, safe='')}/end", _time(message)
        try:
            self._ask("PUT", path, {"end_time": at})
        except _Answered as error:
            if error.code == 404:
                self._absent(named)
                return
            if error.code != 400 or at is None:
                raise
            self._ask("PUT", path, {"end_time": None})  # 400: it began later than it ended, by Frigate's clock
        self._events.pop(named, None)
        self._looks.pop(named, None)

    def _absent(self, named: str) -> None:
        """The event to be ended is not there: not yet, or it was never created, or deleted."""
        looks = self._looks[named] = self._looks.get(named, 0) + 1
        if looks < LOOKS:
            raise Unavailable("the event of an alarm that has ended is not there yet")
        self._events.pop(named, None)
        self._looks.pop(named, None)
        raise Refused("Frigate has no event of an alarm that has ended")

    def _find(self, camera: str, label: str, named: str) -> str:
        """The id of the event with this sub label; empty: there is none."""
        query = urlencode({"cameras": camera, "labels": label, "sub_labels": named, "limit": 1})
        found = self._json(self._ask("GET", f"/events?{query}"))
        if not isinstance(found, list):
            raise Unavailable("the list of events is not Frigate's: is this its address?")
        ids = [row.get("id") for row in found if isinstance(row, dict) and row.get("sub_label") == named]
        return str(ids[0]) if ids else ""

    def _version(self) -> tuple[int, ...]:
        """Such as (0, 18); () where it cannot be told."""
        found = re.match(rb"(\d+)\.(\d+)", self._ask("GET", "/version"))
        return (int(found[1]), int(found[2])) if found else ()

    def _ask(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> bytes:
        """The answer to one request. Raises Unavailable, or _Answered for a status that says no for good."""
        if self._user and not self._token:
            self._login()
        try:
            return self._request(method, path, content)
        except _Answered as error:
            if error.code != 401:
                raise
        if not self._user:
            raise Unavailable("Frigate wants a user: frigate+http://user:password@host:8971, or its internal port 5000")
        self._login()  # the token is too old
        try:
            return self._request(method, path, content)
        except _Answered as error:
            if error.code == 401:
                raise Unavailable("Frigate does not take its own token") from None
            raise

    def _login(self) -> None:
        """Frigate's token is the value of the cookie that a login sets; the cookie's name is a setting there."""
        self._token = ""
        request = self._made("POST", "/login", {"user": self._user, "password": self._password})
        try:
            with self._opener.open(request, timeout=self.timeout_s) as answer:
                cookies = answer.headers.get_all("Set-Cookie") or []
        except urllib.error.HTTPError as error:
            error.close()
            raise Unavailable(f"Frigate answered {error.code} to the login{_LOGIN.get(error.code, '')}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(_why(error)) from None
        tokens = [value for cookie in cookies if (value := cookie.split(";")[0].partition("=")[2].strip('"'))]
        if not tokens:
            raise Unavailable("the answer to the login is not Frigate's: is this its address?")
        self._token = tokens[0]
        remember_secret(self._token)

    def _request(self, method: str, path: str, content: Mapping[str, Any] | None) -> bytes:
        try:
            with self._opener.open(self._made(method, path, content), timeout=self.timeout_s) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            said = _said(error)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(_why(error)) from None
        if _passing(said.code):
            raise Unavailable(str(said)) from None
        if said.code != 401 and not said.message:  # a proxy, another server, HTTPS asked without it
            raise Unavailable(f"{said.code} is no answer of Frigate: is this its address?") from None
        if said.code == 403:
            raise Unavailable(f"{said}: the user needs Frigate's role admin") from None
        raise said from None

    def _made(self, method: str, path: str, content: Mapping[str, Any] | None) -> urllib.request.Request:
        body = None if content is None else json.dumps(content, ensure_ascii=False).encode(errors="replace")
        headers = {"User-Agent": "posewatch", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return urllib.request.Request(self._api + path, body, headers, method=method)

    def _json(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError:
            raise Unavailable("the answer is not Frigate's: is this its address?") from None


_LOGIN = {401: ": wrong user or password", 404: ": it has no users (auth is off), leave the user out", 429: ""}


class _Answered(Refused):
    """A status that says no, and what Frigate said with it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"Frigate answered {code}" + (f": {message}" if message else ""))
        self.code, self.message = code, message


def sub_label(key: str, message: Mapping[str, Any]) -> str:
    """What names the alarm in Frigate: at most 100 signs, without those that its search gives a meaning (, * ? [)."""
    rule, person = str(message.get("rule", "")).replace("_", " "), message.get("person")
    parts = ["posewatch", rule[:30], "" if person is None else f"#{person}"[:12], str(message.get("id", key))[:36]]
    return " ".join(re.sub(r"[^A-Za-z0-9 #-]", "-", part) for part in parts if part)


def _passing(code: int) -> bool:
    """Whether the same request may be answered otherwise later."""
    return code in (408, 429) or code >= 500 or 300 <= code < 400


def _said(error: urllib.error.HTTPError) -> _Answered:
    """What Frigate said with a status: its ``message``, or ``detail`` where a role or the request is wrong. That of a
    404 comes from any server."""
    try:
        with error:
            content = json.loads(error.read(10_000))
        detail = "" if error.code == 404 else content.get("detail")
        message = str(content.get("message") or detail or "")
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        message = ""
    return _Answered(error.code, " ".join(re.sub(r"[^\x20-\x7e]", " ", message).split())[:200])


def _why(error: BaseException) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return getattr(reason, "strerror", None) or str(reason) or type(error).__name__


def _seconds(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise InputError(f"the duration of a frigate address is whole seconds, not {text!r}")
    return int(text)


def _time(message: Mapping[str, Any]) -> float | None:
    """The message's time in seconds since 1970."""
    try:
        return datetime.fromisoformat(str(message.get("time"))).timestamp()
    except ValueError:
        return None


def _began(message: Mapping[str, Any]) -> float:
    """When the alarm of a raised message began; now, where that is not told."""
    at = _time(message)
    if at is None:
        return time.time()
    try:
        return at - max(0.0, float(message["raised_s"]) - float(message["start_s"]))
    except (KeyError, TypeError, ValueError):
        return at
