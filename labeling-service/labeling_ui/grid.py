"""The grid of looping clips: a Streamlit component that handles keys, focus, speed and loading in the browser.

The browser sends acts, each with an id, until they are answered; the answers are part of the next data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).parent / "browser"
SHARED = ("elements.js", "media.js", "welfare.js")
PARTS = (
    *("palette.js", "ownkeys.js", "closer.js"),
    *("keys.js", "outbox.js", "history.js", "notices.js", "dialogs.js", "choice.js"),
    *("guide.js", "popover.js", "comments.js", "scene.js", "card.js", "toolbar.js", "grid.js", "mount.js"),
)
VIEWS = {
    "find": ("find.js", "select.js", "find.css"),
    "timeline": ("segment.js", "timeline.js", "timeline.css"),
}
"""What the grid of a view has besides."""
ALARMS = (
    *("palette.js", "ownkeys.js", "keys.js", "outbox.js", "history.js", "notices.js", "dialogs.js", "guide.js"),
    *("toolbar.js", "alarm_player.js", "alarm_curve.js", "alarm_form.js", "alarm_bar.js", "alarm_row.js"),
    *("alarms.js", "find.css", "alarms.css"),
)


@cache
def sources(parts: tuple[str, ...] = PARTS) -> tuple[str, str]:
    """(JavaScript, CSS) of a component of these parts, besides the shared ones."""
    files = (*SHARED, *parts, "grid.css")
    script, style = ([name for name in files if name.endswith(end)] for end in (".js", ".css"))
    return _joined(script), _joined(sorted(style, key="grid.css".__ne__))


def _joined(names: list[str]) -> str:
    """The files without their lines of comments: the first page is sent over slow lines."""
    text = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)
    return re.sub(r"^ *//.*\n", "", text, flags=re.MULTILINE)


@st.cache_resource
def _component(name: str, parts: tuple[str, ...] = PARTS) -> Any:
    script, style = sources(parts)
    return st.components.v2.component(f"posewatch_{name}", html='<div class="grid"></div>', css=style, js=script)


def sample(data: dict[str, Any], key: str) -> None:
    """Show clips in groups, only to look at: ``groups`` of a title and cards."""
    _component("sample", ("sample.js",))(data=data, key=key)


def outbox(key: str) -> list[dict[str, Any]]:
    """The acts that the browser has sent and whose answer it has not seen yet, oldest first."""
    state = st.session_state.get(key)
    sent = state.get("outbox") if isinstance(state, Mapping) else None
    acts = sent.get("acts") if isinstance(sent, Mapping) else None
    if not isinstance(acts, list):  # a browser can send anything
        return []
    return [act for act in acts if isinstance(act, dict) and isinstance(act.get("id"), str)]


def alarms(data: dict[str, Any], key: str, on_acts: Callable[[], None]) -> None:
    """Show the page of alarms; ``on_acts`` as for `grid`."""
    _component("alarms", ALARMS)(data=data, key=key, default={"outbox": None}, on_outbox_change=on_acts)


def grid(data: dict[str, Any], key: str, on_acts: Callable[[], None], view: str = "grid") -> None:
    """Show the grid of a view; ``on_acts`` is called when acts have arrived, before the page is drawn again."""
    _component(view, (*PARTS, *VIEWS.get(view, ())))(
        data=data, key=key, default={"outbox": None}, on_outbox_change=on_acts
    )
