"""Text files as people bring them: UTF-8 with or without a byte order mark, UTF-16 with one, Korean Windows (CP949).

A text is read where its encoding is certain, and refused with the remedy where it is not.
"""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any

from posewatch.errors import InputError, first_line

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_REMEDY = "save it as UTF-8 (Excel: 'CSV UTF-8')"
_NO_CHARACTER = re.compile("[\0\ud800-\udfff]")


def read_text(path: Path | str, *, error: type[InputError] = InputError) -> str:
    """The text of a file, line ends as they are. Raises ``error`` in one line that names the file and the remedy."""
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from None
    return decoded(data, str(path), error=error)


def decoded(data: bytes, name: str, *, error: type[InputError] = InputError) -> str:
    """The text in ``data``, which messages call ``name``. Raises ``error`` where its encoding is not certain."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                kind = encoding.removesuffix("-sig").upper()
                raise error(f"{name} begins like {kind} text but is damaged: {_REMEDY}") from None
    if b"\0" in data:
        raise error(f"{name} is not text, or UTF-16 text without a byte order mark: {_REMEDY}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        text = data.decode("cp949")
    except UnicodeDecodeError:
        text = ""
    if not _is_korean(text):
        raise error(f"{name} is not UTF-8 text, and its encoding is not certain: {_REMEDY}")
    return text


def _is_korean(text: str) -> bool:
    """Whether text that was read as CP949 is Korean: syllables in everyday use, and no other letters.

    The bytes of Western, Chinese and Japanese texts that are valid CP949 mostly give hanja, kana, Cyrillic or the
    syllables that only CP949 has, of which Korean texts hold few.
    """
    foreign = {c for c in text if ord(c) > 0x7F and (c.isalpha() or ord(c) > 0xFFFF)}
    syllables = {c for c in foreign if "가" <= c <= "힣"}
    everyday = {c for c in syllables if all(byte >= 0xA1 for byte in c.encode("cp949"))}
    letters = {c for c in foreign - syllables if not "ㄱ" <= c <= "ㆎ" and not "！" <= c <= "～"}
    return bool(everyday) and not letters and 5 * len(everyday) >= 4 * len(syllables)


def storable(text: str) -> str:
    """Text as databases and files take it: U+FFFD instead of NUL, which PostgreSQL refuses, and of half of a character
    (a lone surrogate: an emoji that was cut), which is no UTF-8."""
    return _NO_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", text)


def read_json(path: Path | str, *, error: type[InputError] = InputError) -> Any:
    """What a JSON file holds. Raises ``error``."""
    text = read_text(path, error=error)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise error(f"{Path(path).name} is not readable JSON: {first_line(problem)}") from None
