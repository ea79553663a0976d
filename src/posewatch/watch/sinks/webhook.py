"""Alarms to a webhook, signed."""

from __future__ import annotations

import hashlib
import hmac
import time
import urllib.error
import urllib.request

SIGNATURE = "X-Posewatch-Signature"


TIMEOUT_S = 10.0


def sign(body: bytes, secret: bytes, at: int) -> str:
    """``t=<seconds since 1970>,v1=<hex>``: HMAC-SHA256 of the time, a dot and the body."""
    digest = hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def verify(body: bytes, secret: bytes, signature: str, *, now: float | None = None, tolerance_s: float = 300.0) -> bool:
    """Whether a message is signed with ``secret`` and not older than ``tolerance_s``: for receivers."""
    parts = dict(part.partition("=")[::2] for part in signature.split(","))
    if not parts.get("t", "").isdigit():
        return False
    at = int(parts["t"])
    fresh = abs((time.time() if now is None else now) - at) <= tolerance_s
    return fresh and hmac.compare_digest(sign(body, secret, at), signature)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
