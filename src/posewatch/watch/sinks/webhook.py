"""Messages to a webhook by HTTP POST, signed."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from posewatch.addresses import Address
from posewatch.errors import InputError
from posewatch.posts import post
from posewatch.watch.sinks.delivery import Refused, Transport, Unavailable

SIGNATURE = "X-Posewatch-Signature"


def sign(body: bytes, secret: bytes, at: int) -> str:
    """``t=<seconds since 1970>,v1=<hex>``: HMAC-SHA256 of the time, a dot and the body."""
    digest = hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def verify(body: bytes, secret: bytes, signature: str, *, now: float | None = None, tolerance_s: float = 300.0) -> bool:
    """For receivers: whether a message is signed with ``secret`` and at most ``tolerance_s`` seconds old."""
    parts = dict(part.partition("=")[::2] for part in signature.split(","))
    if not parts.get("t", "").isdigit():
        return False
    at = int(parts["t"])
    fresh = abs((time.time() if now is None else now) - at) <= tolerance_s
    return fresh and hmac.compare_digest(sign(body, secret, at), signature)


class Webhook(Transport):
    """Posts messages to an http(s) URL; with a ``secret`` they are signed (``verify`` is the receiver's side).

    Raises InputError for an address that HTTP cannot send. A receiver refuses a message by a status of 4xx, except 408
    and 429. ``Idempotency-Key`` lets it recognise a message that it has already taken.
    """

    media_type = "application/json"

    def __init__(self, url: str, secret: str = "") -> None:
        if Address.parse(url).user or not url.isascii() or len(url.split()) != 1:
            raise InputError("a webhook's address has no user, no space, and other signs only as %20 (%C3%A9, ...)")
        self._url, self._secret = url, secret.encode()
        self.name = f"webhook {Address.parse(url).place}"

    def content(self, key: str, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is posted of a message."""
        return message

    def body(self, key: str, message: Mapping[str, Any]) -> bytes:
        """The content as it is posted."""
        return json.dumps(self.content(key, message), ensure_ascii=False, sort_keys=True).encode()

    def send(self, key: str, message: Mapping[str, Any]) -> None:
        body = self.body(key, message)
        headers = {"Content-Type": self.media_type, "Idempotency-Key": key, "User-Agent": "posewatch"}
        if self._secret:
            headers[SIGNATURE] = sign(body, self._secret, int(time.time()))
        request = urllib.request.Request(self._url, body, headers)
        try:
            post(request, self.timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            if 400 <= error.code < 500 and error.code not in (408, 429):
                raise Refused(f"the receiver answered {error.code}") from None
            elsewhere = " (a redirect: give the address that it names)" if error.code < 400 else ""
            raise Unavailable(f"the receiver answered {error.code}{elsewhere}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise Unavailable(getattr(reason, "strerror", None) or str(reason) or type(error).__name__) from None
