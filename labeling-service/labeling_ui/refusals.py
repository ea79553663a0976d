"""Refusals in the language of the page: ``words/refusals.<language>.json`` has a pattern and a text for each."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "words"


@cache
def _patterns(language: str) -> list[tuple[re.Pattern[str], str]]:
    path = FOLDER / f"refusals.{language}.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return [(re.compile(pattern), text) for pattern, text in rows]


def translated(message: str, language: str) -> str:
    """``message``, an error of posewatch, in this language where there is a text for it, else as it is."""
    for pattern, text in _patterns(language):
        match = pattern.fullmatch(message)
        if match:
            return text.format(**match.groupdict())
    return message
