"""What the views share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import streamlit as st

from labeling_ui import wiring
from posewatch.errors import PosewatchError
from posewatch.labels.entries import BAD, UNSURE
from posewatch.labels.session import LabelingSession
from posewatch.labels.team import roles


@dataclass(frozen=True)
class Here:
    """Who is at the page, and what it says to them."""

    who: str
    say: dict[str, Any]

    @property
    def session(self) -> LabelingSession:
        """A session of the logic, made anew: a role or a label set that has changed meanwhile counts."""
        return LabelingSession(wiring.label_store(), self.who, wiring.label_config())

    @property
    def role(self) -> roles.Role:
        return roles.role_of(wiring.label_store(), self.who)

    def data(self, mode: str, page: str) -> dict[str, Any]:
        """What every grid is told; the clips are added."""
        config = wiring.label_config()
        return {
            "mode": mode,
            "page": page,
            "who": self.who,
            "classes": list(config.classes),
            "marks": [
                {"label": UNSURE, "text": self.say["unsure"], "key": "u"},
                {"label": BAD, "text": self.say["bad"], "key": "b"},
            ],
            "default": config.default,
            "sensitive": list(config.sensitive),
            "welfare": bool(config.sensitive),
            "words": self.say,
            "turns": [],
            "context": None,
        }


def plain(text: str) -> str:
    """Text of unknown origin, such as a file name, with its Markdown switched off."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~:$<>&@])", r"\\\1", text)


def told(view: Callable[..., None]) -> Callable[..., None]:
    """A view whose errors are one line on the page."""

    @wraps(view)
    def shown(*args: Any) -> None:
        try:
            view(*args)
        except PosewatchError as error:
            st.error(plain(str(error)), icon=":material/error:")

    return shown
