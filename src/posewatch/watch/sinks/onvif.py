"""Messages as ONVIF events: WS-BaseNotification's Notify (SOAP 1.2), pushed to a video management system.

Names and order of elements: OASIS b-2.xsd and ONVIF's onvif.xsd (Core Specification, Event Handling).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode
from xml.sax.saxutils import quoteattr

from posewatch.errors import InputError
from posewatch.watch.payload import RAISED
from posewatch.watch.sinks.webhook import Webhook

SCHEMES = {"onvif+http": "http", "onvif+https": "https"}
ACTION = "http://docs.oasis-open.org/wsn/bw-2/NotificationConsumer/Notify"
DIALECT = "http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet"
NAMESPACES = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "wsa": "http://www.w3.org/2005/08/addressing",
    "wsnt": "http://docs.oasis-open.org/wsn/b-2",
    "tt": "http://www.onvif.org/ver10/schema",
    "tns1": "http://www.onvif.org/ver10/topics",
    "pw": "urn:posewatch:topics",
}
TOPIC, STATE = "tns1:RuleEngine/pw:Alarm", "State"
"""A topic of ours below ONVIF's root, and the item that is true while there is an alarm."""
_TOPIC = re.compile(r"tns1:[A-Za-z0-9_-]+(/(pw:)?[A-Za-z0-9_-]+)+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_IDS = uuid.UUID("6ff2bd0a-9d7c-5b56-a3d4-7f4d1b0c2e91")
_NO_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


class Onvif(Webhook):
    """Posts to ``onvif+https://host/path[?topic=TOPIC&state=NAME]``, the address of a NotificationConsumer.

    The event is a property: ``State`` is true when an alarm is raised and false when it has ended, told apart by camera
    (``VideoSourceToken``), rule and person. ``topic`` and ``state`` are those that a receiver knows already, such as
    ``tns1:RuleEngine/CellMotionDetector/Motion`` and ``IsMotion``. ``wsa:MessageID`` is the same when a message comes
    twice. Answers, retries and the signature are those of `Webhook`. Raises InputError for another topic or name.
    """

    media_type = f'application/soap+xml; charset=utf-8; action="{ACTION}"'

    def __init__(self, url: str, secret: str = "") -> None:
        scheme, _, rest = url.partition("://")
        place, _, query = rest.partition("?")
        given = parse_qsl(query, keep_blank_values=True)
        ours = {name: value for name, value in given if name in ("topic", "state")}
        self._topic, self._state = ours.get("topic", TOPIC), ours.get("state", STATE)
        if not _TOPIC.fullmatch(self._topic):
            raise InputError(f"an ONVIF topic is written like {TOPIC}, not {self._topic!r}")
        if not _NAME.fullmatch(self._state):
            raise InputError(f"the ONVIF item 'state' is a name like IsMotion, not {self._state!r}")
        rest = urlencode([pair for pair in given if pair[0] not in ours])
        super().__init__(f"{SCHEMES[scheme.lower()]}://{place}{'?' if rest else ''}{rest}", secret)

    def body(self, key: str, message: Mapping[str, Any]) -> bytes:
        state = "true" if message.get("event") == RAISED else "false"
        rule = message.get("rule") or message.get("label") or "alarm"
        source = {"VideoSourceToken": message.get("source"), "Rule": rule}
        data = {
            self._state: state, "AlarmId": message.get("id"), "Label": message.get("label"),
            "Likelihood": message.get("probability"), "Reason": message.get("reason"),
        }  # fmt: skip
        names = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope {names}><s:Header><wsa:Action>{ACTION}</wsa:Action>'
            f"<wsa:MessageID>urn:uuid:{uuid.uuid5(_IDS, key)}</wsa:MessageID></s:Header><s:Body><wsnt:Notify>"
            f'<wsnt:NotificationMessage><wsnt:Topic Dialect="{DIALECT}">{self._topic}</wsnt:Topic><wsnt:Message>'
            f'<tt:Message UtcTime="{_utc(message.get("time"))}" PropertyOperation="Changed">'
            f"<tt:Source>{_items(source.items())}</tt:Source>"
            f"<tt:Key>{_items([('Person', message.get('person'))])}</tt:Key>"
            f"<tt:Data>{_items(data.items())}</tt:Data></tt:Message></wsnt:Message></wsnt:NotificationMessage>"
            "</wsnt:Notify></s:Body></s:Envelope>"
        )
        return text.encode()


def _items(values: Iterable[tuple[str, Any]]) -> str:
    """SimpleItems, of what there is; characters that XML cannot hold are left out, whatever a name has."""
    known = ((name, _NO_XML.sub("", str(value))) for name, value in values if value not in (None, ""))
    return "".join(f"<tt:SimpleItem Name={quoteattr(name)} Value={quoteattr(text)}/>" for name, text in known)


def _utc(text: object) -> str:
    """A moment as xs:dateTime in UTC; of a recording, which has none, that of sending."""
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        at = datetime.now(UTC)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
