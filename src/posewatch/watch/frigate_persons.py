"""Whether a camera is to be looked at: while Frigate sees a person there, told over MQTT (docs/integrations.md)."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from typing import Any

from posewatch.errors import InputError
from posewatch.redact import remember
from posewatch.watch.broker import Broker

PREFIX, LABEL = "frigate", "person"
OPTIONS = ("camera", "label", "before", "after")
DETECT, ENABLED, STATUS = "detect/state", "enabled/state", "status/detect"
_BLIND = {
    ENABLED: "this camera is turned off in Frigate",
    DETECT: "detection is turned off for this camera in Frigate",
    STATUS: "this camera gives Frigate no picture",
}
"""A camera's topics (the first is new in Frigate 0.16, the last in 0.17), and what it means when one is not on: Frigate
then sees nobody, whoever is there."""
BEFORE_S, AFTER_S, MOST_S = 3.0, 10.0, 600.0
_LOG = logging.getLogger(__name__)


class FrigatePersons:
    """Follows ``mqtt://[user[:password]@]host[:port][/frigate]?camera=NAME[&label=person&before=3&after=10]``.

    ``wanted`` is True while Frigate tracks somebody, ``after`` seconds longer, and always when that is not known: the
    broker or Frigate is away, has not told yet, or does not look at the camera itself (its detection or the camera is
    turned off there, or gives it no picture). ``before_s`` is how much of the time before is to be looked at.
    Frigate's messages are its ``events`` of persons, the count of them, the states of the camera, and all of that
    (``camera_activity``), which it is asked for after each connection. Raises InputError.
    """

    def __init__(self, url: str, secret: str = "") -> None:
        remember(url)
        self._broker = broker = Broker.of(url, secret, OPTIONS)
        self._prefix = broker.prefix or PREFIX
        self._camera, self._label = broker.options.get("camera", ""), broker.options.get("label", LABEL)
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self._camera):
            raise InputError("say which camera of Frigate: mqtt://host/frigate?camera=NAME (letters, digits, _ and -)")
        if not self._label or re.search(r"[/+#\0]", self._label):
            raise InputError("the label of Frigate's objects is a plain name, such as person")
        self.before_s, self._after_s = _seconds(broker, "before", BEFORE_S), _seconds(broker, "after", AFTER_S)
        self._lock = threading.Lock()
        self._connected = self._online = self._known = False
        self._blind = set[str]()
        self._persons: set[str] = set()
        self._count = 0
        self._left = 0.0
        self._said, self._odd = "", set[str]()
        client = broker.client
        client.on_connect, client.on_disconnect, client.on_message = self._connect, self._disconnect, self._message

    def start(self) -> None:
        """Connect in the background."""
        self._broker.start()

    def close(self) -> None:
        """Disconnect."""
        client = self._broker.client
        client.disconnect()
        client.loop_stop()
        client.on_connect = client.on_disconnect = client.on_message = None  # its sockets are closed with it

    @property
    def wanted(self) -> bool:
        """Whether to look now."""
        with self._lock:
            why = self._unknown()
            wanted = bool(why or self._persons or self._count) or time.monotonic() - self._left < self._after_s
        if why != self._said:
            self._said = why
            text = f"{why}; looking all the time" if why else "Frigate says who is there; looking only then"
            _LOG.warning("camera %s: %s", self._camera, text)
        return wanted

    def _unknown(self) -> str:
        """Why it is not known whether somebody is there; empty: it is known."""
        if not self._connected:
            return f"no connection to the broker {self._broker.place}"
        if not self._online:
            return "Frigate is not online at this broker"
        for state, why in _BLIND.items():
            if state in self._blind:
                return why
        return "" if self._known else "Frigate has not told yet who is there"

    # called from the client's own thread

    def _connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            return
        with self._lock:
            self._connected, self._online, self._known = True, False, False
            self._blind.clear()  # what still holds is retained, or said again every ten seconds
        states = (f"{self._camera}/{state}" for state in _BLIND)
        topics = ("available", "events", f"{self._camera}/{self._label}", "camera_activity", *states)
        client.subscribe([(f"{self._prefix}/{topic}", 1) for topic in topics])

    def _disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._lock:
            self._connected = False

    def _message(self, client: Any, data: Any, message: Any) -> None:
        topic = message.topic.removeprefix(f"{self._prefix}/")
        try:
            content = message.payload.decode()
            if topic == "available":
                self._available(client, content)
            elif topic == "events":
                self._event(json.loads(content))
            elif topic == "camera_activity":
                self._activity(json.loads(content))
            elif (state := topic.removeprefix(f"{self._camera}/")) in _BLIND:
                self._state(state, content.lower() in ("on", "online"))
            else:
                self._counted(int(content))
        except (ValueError, TypeError, KeyError, AttributeError):
            if topic not in self._odd:
                self._odd.add(topic)
                _LOG.warning("camera %s: a message of %s/%s is not Frigate's", self._camera, self._prefix, topic)

    def _available(self, client: Any, content: str) -> None:
        with self._lock:
            self._online, self._known = content == "online", False
        if content == "online":
            client.publish(f"{self._prefix}/onConnect", "", 1)  # it answers with camera_activity

    def _event(self, event: dict[str, Any]) -> None:
        after = event["after"]
        if after["camera"] != self._camera or after["label"] != self._label:
            return
        with self._lock:
            if event["type"] == "end" or after.get("end_time") is not None:
                self._now(self._persons - {str(after["id"])}, self._count)
            elif not after.get("false_positive"):
                self._known = True
                self._now(self._persons | {str(after["id"])}, self._count)

    def _counted(self, count: int) -> None:
        with self._lock:
            self._known = True
            self._now(self._persons if count else set(), count)

    def _activity(self, cameras: dict[str, Any]) -> None:
        if self._camera not in cameras:
            _LOG.warning("Frigate has no camera %s (it has: %s)", self._camera, ", ".join(sorted(cameras))[:200])
            return
        objects = cameras[self._camera].get("objects", [])
        config = cameras[self._camera].get("config", {})
        for name, state in (("detect", DETECT), ("enabled", ENABLED)):
            if isinstance(config.get(name), bool):
                self._state(state, config[name])
        # somebody it recognised is "person-verified"
        persons = {str(one["id"]) for one in objects if one["label"] in (self._label, f"{self._label}-verified")}
        with self._lock:
            self._known = True
            self._now(persons, len(persons))

    def _state(self, state: str, on: bool) -> None:
        """Whether Frigate looks at the camera, as far as ``state`` tells. When it does again it needs a moment to find
        somebody: until then they may be there."""
        with self._lock:
            if on and state in self._blind:
                self._left = time.monotonic()
            (self._blind.discard if on else self._blind.add)(state)

    def _now(self, persons: set[str], count: int) -> None:
        if (self._persons or self._count) and not (persons or count):
            self._left = time.monotonic()
        self._persons, self._count = persons, count


def _seconds(broker: Broker, name: str, default: float) -> float:
    text = broker.options.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"\d+(\.\d+)?", text) or float(text) > MOST_S:
        raise InputError(f"{name} of an address of Frigate's broker is 0 to {MOST_S:g} seconds, not {text!r}")
    return float(text)
