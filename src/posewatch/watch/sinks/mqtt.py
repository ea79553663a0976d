"""Alarms by MQTT 5: each message at least once (QoS 1), each camera's state retained, and Home Assistant's discovery.

Topics below the path of the address (``posewatch`` by default), one level for each camera:

    <prefix>/<camera>/alarm         the message, not retained; its ``id`` and ``event`` name it, should it come twice
    <prefix>/<camera>/state         ON while there is an alarm, else OFF; retained
    <prefix>/<camera>/attributes    the message that the state comes from; retained
    <prefix>/<camera>/availability  online, or offline without pictures and as the watcher's last will; retained
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from posewatch import __version__
from posewatch.errors import InputError
from posewatch.watch.broker import Broker
from posewatch.watch.payload import RAISED
from posewatch.watch.sinks.delivery import Transport, Unavailable

try:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.subscribeoptions import SubscribeOptions
except ImportError:  # Broker says so
    pass

PREFIX, DISCOVERY = "posewatch", "homeassistant"
ON, OFF, ONLINE, OFFLINE = "ON", "OFF", "online", "offline"
_NOTHING = -1  # no message's number


def level(camera: str) -> str:
    """The camera's level of a topic, and its id in Home Assistant: letters, digits, "-" and "_" only, and different
    for every name."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", camera)[:48]
    return plain if plain == camera else f"{plain}-{hashlib.sha256(camera.encode(errors='replace')).hexdigest()[:8]}"


def discovery(camera: str, prefix: str, availability: str) -> dict[str, Any]:
    """What makes a camera's alarm an entity of Home Assistant (its MQTT discovery, component ``binary_sensor``)."""
    name, topic = level(camera), f"{prefix}/{level(camera)}"
    return {
        "name": "Alarm",
        "unique_id": f"posewatch_{name}_alarm",
        "device_class": "safety",
        "state_topic": f"{topic}/state",
        "payload_on": ON,
        "payload_off": OFF,
        "json_attributes_topic": f"{topic}/attributes",
        "availability_topic": availability,
        "qos": 1,
        "device": {
            "identifiers": [f"posewatch_{name}"],
            "name": camera,
            "manufacturer": "posewatch",
            "sw_version": __version__,
        },
        "origin": {"name": "posewatch", "sw_version": __version__},
    }


class Mqtt(Transport):
    """Publishes to ``mqtt://[user[:password]@]host[:port][/prefix][?ca=FILE&cert=FILE&key=FILE&discovery=PREFIX]``.

    ``mqtts`` is TLS, verified against the system's authorities or ``ca``; ``cert`` and ``key`` are the watcher's own.
    ``secret`` is the password of an address without one. ``discovery=`` turns discovery off. Raises InputError.
    """

    def __init__(self, url: str, secret: str = "") -> None:
        self._broker = broker = Broker.of(url, secret, ("discovery",))
        self._prefix = broker.prefix or PREFIX
        self._discovery = broker.options.get("discovery", DISCOVERY).strip("/")
        if re.search(r"[+#\0]", self._discovery):
            raise InputError("the discovery prefix of an mqtt address has no + and no #")
        self.name = f"broker {broker.place}"
        self._client = client = broker.client
        client.on_connect, client.on_connect_fail = self._on_connect, self._on_connect_fail
        client.on_disconnect, client.on_publish = self._on_disconnect, self._on_publish
        client.on_message = self._on_message
        self._why, self._started, self._closing = "no connection yet", False, False
        self._cameras: tuple[str, ...] = ()
        self._watched = True
        self._active: dict[str, set[str]] = {}
        self._pending: dict[str, Any] = {}
        self._refused: dict[int, str] = {}
        self._to_tell: Iterator[str | None] = iter(())
        self._telling = _NOTHING
        self._since, self._lock = datetime.now(UTC), threading.Lock()

    def about(self, cameras: Sequence[str]) -> None:
        self._cameras = tuple(cameras)
        self._start()

    def watched(self, on: bool) -> None:
        self._watched = on
        if self._cameras and self._client.is_connected():  # else it is told with the next connection
            self._publish_availability()

    def _start(self) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        if self._started:
            return
        self._started = True
        if self._cameras:
            self._client.will_set(self._availability, OFFLINE, 1, retain=True)
        self._broker.start()

    @property
    def _availability(self) -> str:
        """One topic for all cameras of this connection: it has one last will."""
        return f"{self._prefix}/{level(self._cameras[0])}/availability"

    def send(self, key: str, message: Mapping[str, Any]) -> None:
        self._start()
        if not self._client.is_connected():
            raise Unavailable(self._why)
        camera = str(message.get("source", ""))
        info = self._pending.pop(key, None)
        if info is None:
            if camera in self._cameras:
                self._state(camera, message)
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = ("key", key)
            properties.ContentType = "application/json"
            topic, body = f"{self._prefix}/{level(camera)}/alarm", _json(message)
            info = self._client.publish(topic, body, 1, properties=properties)
        with contextlib.suppress(RuntimeError):  # a lost connection: the client sends it when there is one again
            info.wait_for_publish(self.timeout_s)
        if not info.is_published():
            self._pending[key] = info  # not a second time: this one still is on its way
            raise Unavailable("the broker has not confirmed the message")
        if reason := self._refused.pop(info.mid, ""):
            raise Unavailable(f"the broker does not take the message: {reason}")

    def _state(self, camera: str, message: Mapping[str, Any]) -> None:
        """The camera's state after a message. One of before this process says nothing of now: its end may be lost."""
        if _time(message) < self._since:
            return
        with self._lock:
            alarms = self._active.setdefault(camera, set())
            (alarms.add if message.get("event") == RAISED else alarms.discard)(str(message.get("id")))
        self._client.publish(f"{self._prefix}/{level(camera)}/attributes", _json(message), 1, retain=True)
        self._publish_state(camera)

    def _publish_state(self, camera: str) -> int:
        with self._lock:
            state = ON if self._active.get(camera) else OFF
        return self._client.publish(f"{self._prefix}/{level(camera)}/state", state, 1, retain=True).mid

    def _publish_availability(self) -> int:
        while True:
            on = self._watched
            mid = int(self._client.publish(self._availability, ONLINE if on else OFFLINE, 1, retain=True).mid)
            if on == self._watched:  # else it has changed meanwhile, and the other thread may have been before this one
                return mid

    def close(self) -> None:
        """Say that the cameras are not watched any more, and disconnect."""
        self._closing = True
        if self._started:
            if self._client.is_connected() and self._cameras:
                self._client.publish(self._availability, OFFLINE, 1, retain=True).wait_for_publish(2.0)
            self._client.disconnect()
            self._client.loop_stop()
        # its sockets are closed when nothing refers to it any more
        self._client.on_connect = self._client.on_connect_fail = None
        self._client.on_disconnect = self._client.on_publish = self._client.on_message = None

    # called from the client's own thread

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._why = f"the broker refuses the connection: {reason}"
            return
        self._to_tell = iter([*self._cameras, None] if self._cameras else [])
        if self._cameras:
            new_ones = SubscribeOptions(1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
            client.subscribe(self._availability, options=new_ones)
        if self._telling == _NOTHING:  # else that message is sent again, and its confirmation goes on with the others
            self._tell()

    def _tell(self) -> None:
        """Tell of the next camera, and at the end that they are watched: each when the one before is confirmed.

        A broker closes the connection of a client that has more messages under way than it allows (its Receive Maximum:
        HiveMQ 10). paho does not know that limit, and on a new connection sends all at once that was under way.
        """
        camera = next(self._to_tell, "")
        if camera is None:
            self._telling = self._publish_availability()
        elif camera:
            if self._discovery:
                place = f"{self._discovery}/binary_sensor/posewatch_{level(camera)}/alarm/config"
                self._client.publish(place, _json(discovery(camera, self._prefix, self._availability)), 1, retain=True)
            self._telling = self._publish_state(camera)

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        """The last will of a watcher before this one, of a machine that lost its power, say: the broker publishes it
        only when it has missed that one for 45 s, after this one may have said that it is there."""
        if message.payload == OFFLINE.encode() and self._watched and not self._closing:
            client.publish(self._availability, ONLINE, 1, retain=True)

    def _on_connect_fail(self, client: Any, data: Any) -> None:
        self._why = "no connection to the broker"

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if not self._why.startswith("the broker refuses"):
            self._why = f"the connection to the broker was lost: {reason}"

    def _on_publish(self, client: Any, data: Any, mid: int, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._refused[mid] = str(reason)
        if mid == self._telling:
            self._telling = _NOTHING
            self._tell()


def _json(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False, sort_keys=True).encode(errors="replace")


def _time(message: Mapping[str, Any]) -> datetime:
    try:
        at = datetime.fromisoformat(str(message.get("time")))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
