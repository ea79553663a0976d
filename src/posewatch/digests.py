"""Canonical JSON and digests of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. It can always be written as UTF-8: the bytes
    of a file name that are none are escaped."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def digest(value: Any) -> str:
    """sha256 (64 hex digits) of a JSON-able value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def share(*parts: Any) -> float:
    """A number in [0, 1) that depends on ``parts`` only, evenly spread over different ones."""
    return int(digest(list(parts))[:8], 16) / 2**32
