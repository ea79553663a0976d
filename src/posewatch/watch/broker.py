"""An MQTT broker by its address, and a client of it that is not connected yet."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from posewatch.addresses import Address
from posewatch.errors import InputError
from posewatch.watch import tls

try:
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion
except ImportError:
    paho = None  # type: ignore[assignment]

PORTS = {"mqtt": 1883, "mqtts": 8883}
KEEPALIVE_S = 30


@dataclass(frozen=True)
class Broker:
    """``mqtt://[user[:password]@]host[:port][/prefix][?ca=FILE&cert=FILE&key=FILE&...]``; ``mqtts`` is TLS.

    ``prefix`` is the path, where topics begin; ``options`` are those of the query. ``client`` speaks MQTT 5.
    """

    host: str
    port: int
    prefix: str
    options: Mapping[str, str]
    place: str
    client: Any

    @classmethod
    def of(cls, url: str, secret: str, known: tuple[str, ...]) -> Broker:
        """``known`` are the options beside those of TLS; ``secret`` is the password of an address without one.

        Raises InputError for an address, an option or a file that is wrong.
        """
        if paho is None:
            raise InputError("mqtt needs paho-mqtt: pip install 'posewatch[mqtt]'")
        address = Address.parse(url)
        if address.scheme.lower() not in PORTS or address.doubtful:
            raise InputError("a broker is an address such as mqtt://host/prefix or mqtts://user@host")
        options = {name: values[-1] for name, values in parse_qs(address.query[1:], keep_blank_values=True).items()}
        known = (*tls.OPTIONS, *known)
        if unknown := [name for name in options if name not in known]:
            raise InputError(f"an mqtt address has no option {unknown[0]!r} (known: {', '.join(known)})")
        prefix = unquote(address.path).strip("/")
        if re.search(r"[+#\0]", prefix):
            raise InputError("the topic of an mqtt address has no + and no #: mqtt://host/posewatch")
        match = re.fullmatch(r"(.*?)(?::(\d+))?", address.place)
        assert match is not None
        host, port = match[1].strip("[]"), int(match[2] or PORTS[address.scheme.lower()])
        context = tls.context_of(options, "mqtt") if address.scheme.lower() == "mqtts" else None
        # the same name at each connection: it ends the one before, whose last will would otherwise come later
        name = f"posewatch{secrets.token_hex(7)}"  # 23 letters and digits: any broker takes it
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
        user, _, password = address.user.partition(":")
        if user:
            client.username_pw_set(unquote(user), unquote(password) or secret or None)
        if context is not None:
            client.tls_set_context(context)
        client.reconnect_delay_set(1, 60)
        client.max_inflight_messages_set(1)  # paho does not read the broker's own limit, its Receive Maximum
        return cls(host, port, prefix, options, address.place, client)

    def start(self) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        self.client.connect_async(self.host, self.port, KEEPALIVE_S)
        self.client.loop_start()
