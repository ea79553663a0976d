"""Names of files and classes: paths as URIs and back, and texts that are equal but for their Unicode form.

A file name on Linux is bytes. Python shows bytes that are not UTF-8 as lone surrogates, which no JSON file, database or
terminal takes: what leaves the process is a URI (``uri_of``) or a readable name (``readable``).
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes


def nfc(text: str) -> str:
    """The composed form of a text: a Mac names files in the decomposed form (NFD), everything else composes (NFC)."""
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """A text without its case and its Unicode form, for comparisons."""
    return nfc(nfc(text).casefold())


def known_as(name: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that is ``name`` but for its Unicode form; None where there is none."""
    return next((other for other in known if nfc(other) == nfc(name)), None)


def readable(name: str) -> str:
    """A file name that can be written as UTF-8: bytes in CP949, as Korean Windows writes them, are decoded, and any
    others become ``%XX``. Every other name stays as it is."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "/".join(map(_decoded, os.fsencode(name).split(b"/")))
    return name


def _decoded(part: bytes) -> str:
    for encoding in ("utf-8", "cp949"):
        try:
            text = part.decode(encoding)
        except UnicodeDecodeError:
            continue
        if text.isprintable():
            return text
    return escaped(os.fsdecode(part))


def escaped(name: str) -> str:
    """A file name in ASCII: all other bytes as ``%XX``."""
    return "".join(chr(byte) if 32 <= byte < 127 else f"%{byte:02X}" for byte in os.fsencode(name))


def uri_of(path: str | Path, start: str = "file://") -> str:
    """The URI of a path, which should be absolute: all but plain letters, digits and ``/`` is percent-encoded.

    For SQLite ``start`` is ``sqlite:///``.
    """
    return start + quote_from_bytes(os.fsencode(path))


def path_of(uri: str) -> Path:
    """The path that a ``file://`` or ``sqlite:///`` URI names, or a plain path, of which ``~`` is expanded.

    A URI may also be typed as people do, without encoding: ``file:///my videos/100%``. Where only the path exists that
    it spells literally, that one is meant.
    """
    scheme, sep, rest = uri.partition("://")
    if not sep:
        return Path(uri).expanduser()
    if scheme.partition("+")[0] == "sqlite":
        rest = rest.removeprefix("/")  # sqlite:///labels.db is relative, sqlite:////labels.db is absolute
    elif rest.startswith("localhost/"):
        rest = rest.removeprefix("localhost")
    literal, decoded = Path(rest), Path(os.fsdecode(unquote_to_bytes(os.fsencode(rest))))
    return literal if literal != decoded and literal.exists() and not decoded.exists() else decoded
