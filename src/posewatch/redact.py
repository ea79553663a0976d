"""Takes secrets out of whatever is shown, logged or sent on: of every address in a text, and those that are known.

A program calls ``remember`` with its arguments; secrets of the environment are known by the names of the variables. So
a password is found in the message of another library, too, however that library cut or quoted the address.
"""

from __future__ import annotations

import json
import logging
import os
import re
import traceback
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, unquote

from posewatch.addresses import HIDDEN, Address

SHORTEST = 4
"""Characters of a secret that is looked for outside of its address: shorter ones are in every second word."""
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.\-]*:/{1,2}[^\s\"'<>]+")
_VARIABLE = re.compile(r"SECRET|PASSW|TOKEN|PRIVATE|CREDENTIAL|API_?KEY")
_OURS = ("s3", "file", "memory", "sqlite")
"""Schemes whose addresses hold no secret but in the place of user and password, or under a telling name."""
_known: set[str] = set()


def remember(*texts: str) -> None:
    """Keep the secrets of an address out of all that ``redact`` returns. A text may begin with ``name=``."""
    for text in texts:
        if match := re.search(r"[A-Za-z][A-Za-z0-9+.\-]*:/", text):
            _known.update(_forms(_secrets(text[match.start() :])))


def remember_secret(*secrets: str) -> None:
    """Keep these texts out of all that ``redact`` returns."""
    _known.update(_forms(secrets))


def remember_webhook(url: str) -> None:
    """Keep a receiver's address out of all that ``redact`` returns: with many services its path is the secret."""
    address = Address.parse(url)
    rest = address.path + address.query
    remember_secret(url, *(part for part in (rest, *rest.split("/")) if len(part) >= 8 and re.search(r"\d", part)))


def redact(text: str) -> str:
    """``text`` with ``***`` in place of every secret."""
    if "://" in text or ":/" in text:
        text = _URL.sub(_shown, text)
    known = _known | set(_forms(_of_environment()))
    if known:
        any_of = "|".join(re.escape(secret) for secret in sorted(known, key=len, reverse=True))
        text = re.sub(rf"(?<![A-Za-z0-9])(?:{any_of})(?![A-Za-z0-9])", HIDDEN, text)
    return text


def trace(error: BaseException) -> str:
    """The whole trace of an error, without secrets."""
    return redact("".join(traceback.format_exception(error)))


def redact_logs() -> None:
    """From now on every record of every logger in this process is redacted when it is made."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def redacted(*values: Any, **more: Any) -> logging.LogRecord:
        record = make(*values, **more)
        try:
            record.msg, record.args = redact(record.getMessage()), ()
        except (TypeError, ValueError):
            return record  # a wrong call: logging reports it itself
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = trace(record.exc_info[1]).rstrip("\n")
        return record

    redacted.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(redacted)


def _shown(match: re.Match[str]) -> str:
    text = match[0].rstrip(".,;:)]}")
    address = Address.parse(text)
    slashes = re.search(r":/{1,2}", text)
    shown = address.shown.replace("://", slashes[0] if slashes else "://", 1)
    return (shown if address.secrets else text) + match[0][len(text) :]


def _secrets(url: str) -> Iterator[str]:
    address = Address.parse(url)
    if address.scheme.lower() in _OURS:
        address = Address.parse(re.sub(r"(:/{1,2}[^/?#]*)[^?#]*", r"\1", url))
    for secret in address.secrets:
        yield secret
        for signs in (r"\s", r"[/?#]", r"[\s/?#@:&;\[\]]+"):  # other libraries cut it there
            yield from re.split(signs, secret)


def _of_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        if _VARIABLE.search(name) and "://" not in value and not name.endswith(("_FILE", "_PATH", "_DIR")):
            yield value
        elif re.match(r"[A-Za-z][\w+.\-]*://", value):
            yield from _secrets(value)


def _forms(secrets: Iterable[str]) -> Iterator[str]:
    """The ways in which libraries write the same text; none for a text that is too short, or of the words that are in
    every configuration."""
    for secret in secrets:
        # an address's host is no secret, and it is in many a message
        if re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}|localhost", secret):
            continue
        if len(secret) < SHORTEST or secret.lower() in ("true", "false", "none", "admin", "root", "user", "posewatch"):
            continue
        plain = unquote(secret)
        for text in (secret, plain, re.sub("/+", "/", plain), " ".join(plain.split())):
            yield from (text, quote(text, safe=""), quote(text), repr(text)[1:-1], json.dumps(text)[1:-1])
