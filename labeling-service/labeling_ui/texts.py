"""What the page says, in the languages of ``words/``: the browser's language decides, a switch overrides."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "words"
LANGUAGES = {"en": "English", "ko": "한국어"}


@cache
def words(language: str) -> dict[str, Any]:
    """The catalogue of one language."""
    found: dict[str, Any] = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return found


def language_of(locale: str | None) -> str:
    """The language for a browser's locale such as "ko-KR"; English when there is no catalogue for it."""
    short = (locale or "en").replace("_", "-").split("-")[0].lower()
    return short if short in LANGUAGES else "en"
