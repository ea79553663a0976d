"""Takes addresses (URLs) apart as people write them, passwords with any sign included, and shows them without secrets.

``urlsplit`` and FFmpeg end the host at the first ``/``, ``?`` or ``#``, even inside a password: cameras are set up with
passwords such as ``p#ss/w?rd``, and what is behind that sign would then be shown as the path.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from posewatch.errors import ConfigError, InputError

HIDDEN = "***"
CAMERAS = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp")
"""Schemes of streams."""
SECRET_NAME = re.compile(
    r"(?i)pass|pwd|^pw$|secret|token|key|sig|auth|cred|session|^sid$|jwt|otp|user|usr|login|account|^code$"
)
"""Names of parameters whose values are shown to nobody (``X-Amz-Signature``, ``access_key``, ``user``, ...)."""
_PLACE = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s/?#@:\[\]\"'<>\\]+)(?::\d{1,5})?")
_STRONG = re.compile(r".*:\d{1,5}|\[.*\]|localhost|.*\w\.\w.*")
"""Places that hardly are a part of a password: with a port, in brackets, or with a dot."""
_CERTAIN = re.compile(r"(?:\[.*\]|localhost|\d+(?:\.\d+){3})(?::\d+)?")
"""Places that are no part of a password, and no user with a password of digits."""
_IN_PATH = re.compile(r"([\w.\-]*?)=(.*?)(?=[&;,]|_[A-Za-z]+=|$)")
_IN_QUERY = re.compile(r"(?:([^&;#=]*)=)?([^&;#]+)")
"""Name and value; some cameras take user and password as a part of the path."""
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_UUID = re.compile(r"(?i)[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


@dataclass(frozen=True)
class Address:
    """``scheme://user@place/path?query``, as written; ``user`` may hold a password, ``place`` is ``host[:port]``.

    ``path`` begins with "/" or is empty; ``query`` begins with "?" or "#" or is empty. ``doubtful``: there is no host,
    or a part of a password may have been taken for host or path.
    """

    scheme: str
    user: str
    place: str
    path: str
    query: str
    doubtful: bool = False

    @classmethod
    def parse(cls, text: str) -> Address:
        """Never fails. Of several readings the one of RFC 3986 counts, unless another is much more likely."""
        scheme, _, rest = re.match(r"([^:/]*)(:/{1,2}|)(.*)", text, re.S).groups()  # type: ignore[union-attr]
        at = _host_after(rest)
        user, after = rest[: max(at, 0)], rest[at + 1 :]
        end = _end(after)
        place, tail = after[:end], after[end:]
        if not _PLACE.fullmatch(place):
            return cls(scheme, "", "", rest, "", True) if rest[:1] in ("/", "") else cls(scheme, rest, "", "", "", True)
        cut = next((i for i, c in enumerate(tail) if c in "?#"), len(tail))
        path, query = tail[:cut], tail[cut:]
        another = "@" in path or bool(re.search(r"@[^/@?#&=]+/", query))
        doubtful = another and (":" in place or bool(user)) and not _CERTAIN.fullmatch(place)
        return cls(scheme, user, place, path, query, doubtful)

    @property
    def secrets(self) -> list[str]:
        """Every part that must not be shown, as written."""
        found = [self.user, self.user.partition(":")[2]]
        if self.doubtful and self.place:
            found += [self.place, self.path, self.query[1:]]
        pairs = [(m[1], m[2]) for m in _IN_PATH.finditer(self.path)]
        pairs += [(m[1] or "", m[2]) for m in _IN_QUERY.finditer(self.query[1:])]
        found += [value for name, value in pairs if _is_secret(name, value)]
        found += [segment for segment in self.path.split("/") if _random(segment)]
        return [part for part in found if part]

    def path_without_secrets(self, instead: Callable[[str], str] = lambda segment: HIDDEN) -> str:
        """The path; ``instead(segment)`` stands for a part that looks like a token."""
        return "/".join(
            instead(segment) if _random(segment) else _IN_PATH.sub(_hide, segment) for segment in self.path.split("/")
        )

    @property
    def shown(self) -> str:
        """The whole address with its secrets hidden, for texts in which it stands. Of other addresses than those of
        cameras, long digests are shown: they name artifacts and runs."""
        if self.doubtful:
            return f"{self.scheme}://{HIDDEN if self.user or self.place else self.path}"
        user = f"{HIDDEN}@" if self.user else ""
        camera = self.scheme.lower() in CAMERAS
        path = self.path_without_secrets() if camera else _IN_PATH.sub(_hide_named, self.path)
        query = _IN_QUERY.sub(_hide if camera else _hide_named, self.query[1:])
        return f"{self.scheme}://{user}{self.place}{path}{self.query[:1]}{query}"


def with_environment(text: str) -> str:
    """``text`` with each ``${NAME}`` replaced by that variable. Raises ConfigError for a variable that is not set."""
    for name in _VARIABLE.findall(text):
        if name not in os.environ:
            raise ConfigError(f"{text} needs the environment variable {name}")
    return _VARIABLE.sub(lambda match: os.environ[match[1]], text)


def _host_after(rest: str) -> int:
    """The index of the "@" before the host, -1 where the host comes first; ``rest`` is what follows ``scheme://``."""
    end = _end(rest)
    at = rest.rfind("@", 0, end)
    place = rest[at + 1 : end]
    later = [m.start() for m in re.finditer("@", rest) if m.start() >= end and _place(rest[m.end() :])]
    if not later or ":" not in rest[: later[-1]]:  # without ":" there is no password
        return at
    if _PLACE.fullmatch(place) and (_STRONG.fullmatch(place) or (at < 0 and ":" not in rest[end : later[-1]])):
        return at
    strong = [i for i in later if _STRONG.fullmatch(_place(rest[i + 1 :]))]
    return strong[0] if strong else later[-1]


def _end(rest: str) -> int:
    return next((i for i, c in enumerate(rest) if c in "/?#"), len(rest))


def _place(text: str) -> str:
    """The host[:port] that ``text`` begins with, up to "/", "?", "#" or its end; "" if it begins with none."""
    found = text[: _end(text)]
    return found if _PLACE.fullmatch(found) else ""


def _is_secret(name: str, value: str) -> bool:
    return bool(SECRET_NAME.search(unquote(name))) or _random(value)


def _hide(match: re.Match[str]) -> str:
    return _hidden(match) if _is_secret(match[1] or "", match[2]) else match[0]


def _hide_named(match: re.Match[str]) -> str:
    return _hidden(match) if SECRET_NAME.search(unquote(match[1] or "")) else match[0]


def _hidden(match: re.Match[str]) -> str:
    return f"{match[1]}={HIDDEN}" if match[1] is not None else HIDDEN


def _random(segment: str) -> bool:
    """Whether a part of a path is a token rather than a name such as ``h264Preview_01_main`` or ``media.amp``."""
    if "=" in segment:
        return False
    text = unquote(segment)
    if _UUID.search(text) or re.search(r"(?i)secret|token|passw", text):
        return True
    runs = re.findall(r"[A-Za-z0-9+]+", text)
    return any(_mixed(run) and (len(run) >= 12 or len(re.findall(r"[A-Za-z](?=\d)|\d(?=[A-Za-z])", run)) >= 4)
               for run in runs) or (len(text) >= 20 and _mixed(text))  # fmt: skip


def _mixed(text: str) -> bool:
    return bool(re.search(r"\d", text) and re.search(r"[A-Za-z]", text))


def without_secrets(url: str) -> str:
    """The address without user, password, query and tokens in its path: for messages, names and lineage."""
    address = Address.parse(url)
    if address.doubtful:
        return address.shown
    return f"{address.scheme.lower()}://{address.place.lower()}{address.path_without_secrets()}"


def name_of(url: str) -> str:
    """A camera's default name: host and path of its address, without secrets."""
    address = Address.parse(url)
    host = re.sub(r":\d{1,5}$", "", address.place)
    path = (
        "" if address.doubtful else address.path_without_secrets(lambda s: hashlib.sha256(s.encode()).hexdigest()[:8])
    )
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{host}{path}").strip("-").lower() or "camera"


def connectable(url: str) -> str:
    """The address as FFmpeg understands it: the signs that would end its host are encoded in user and password, and
    its scheme is in small letters (some manuals write RTSP://).

    Raises InputError where it can be read in several ways, or has no host.
    """
    address = Address.parse(url)
    if address.doubtful:
        raise InputError(
            f"cannot tell where the host of {without_secrets(url)} begins: write the signs / ? # @ : of user, password"
            " and path as %2F %3F %23 %40 %3A"
        )
    scheme = address.scheme.lower()
    if not re.search(r"[/?#]", address.user):
        return scheme + url[len(scheme) :]
    user = ":".join(quote(part, safe="") for part in address.user.split(":", 1))
    return f"{scheme}://{user}@{address.place}{address.path}{address.query}"
