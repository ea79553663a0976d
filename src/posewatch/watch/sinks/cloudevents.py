"""Messages as CloudEvents 1.0 over HTTP, in the structured mode: for Knative, Azure Event Grid and others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from posewatch.watch.sinks.webhook import Webhook

SCHEMES = {"cloudevents+http": "http", "cloudevents+https": "https"}
TYPE = "io.posewatch."


class CloudEvents(Webhook):
    """Posts to ``cloudevents+https://host/path``. ``id`` and ``source`` together name an event, also when it
    comes twice.

    Signed and refused like the messages of `Webhook`.
    """

    media_type = "application/cloudevents+json; charset=utf-8"

    def __init__(self, url: str, secret: str = "") -> None:
        scheme, _, rest = url.partition("://")
        super().__init__(f"{SCHEMES[scheme.lower()]}://{rest}", secret)

    def content(self, key: str, message: Mapping[str, Any]) -> Mapping[str, Any]:
        return {
            "specversion": "1.0",
            "id": key,
            "source": f"/cameras/{quote(str(message.get('source', '')), safe='', errors='replace')}",
            "type": f"{TYPE}{message.get('event', 'alarm')}",
            "subject": str(message.get("id", key)),
            "datacontenttype": "application/json",
            **({"time": message["time"]} if message.get("time") else {}),
            "data": dict(message),
        }
