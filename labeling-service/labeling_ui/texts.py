"""The page's texts in the languages of ``words/``. The browser's language is the default; people can switch."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "words"
LANGUAGES = {"en": "English", "ko": "한국어"}


@cache
def catalogue(language: str) -> dict[str, Any]:
    """All texts in one language."""
    texts: dict[str, Any] = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return texts


def language_of(locale: str | None) -> str:
    """The language for a browser's locale such as "ko-KR"; English when there are no texts in it."""
    short = (locale or "en").replace("_", "-").split("-")[0].lower()
    return short if short in LANGUAGES else "en"
