"""The grid of looping clips: a Streamlit component whose keys, focus, speed and loading live in the browser.

The browser sends acts with an id each, until they are answered; the answer is part of the next set of data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).parent / "browser"
PARTS = ("media.js", "outbox.js", "welfare.js", "card.js", "grid.js")


@cache
def sources() -> tuple[str, str]:
    """(javascript, css) of the component."""
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in PARTS)
    return script, (FOLDER / "grid.css").read_text(encoding="utf-8")


@st.cache_resource
def _component() -> Any:
    script, style = sources()
    return st.components.v2.component("posewatch_grid", html='<div class="grid"></div>', css=style, js=script)


def outbox(key: str) -> list[dict[str, Any]]:
    """The acts that the browser has sent and not yet seen answered, oldest first."""
    found = st.session_state.get(key)
    sent = found.get("outbox") if isinstance(found, Mapping) else None
    acts = sent.get("acts") if isinstance(sent, Mapping) else None
    if not isinstance(acts, list):  # a browser can send anything
        return []
    return [act for act in acts if isinstance(act, dict) and isinstance(act.get("id"), str)]


def grid(data: dict[str, Any], key: str, on_acts: Callable[[], None]) -> None:
    """Show the grid; ``on_acts`` is called, before the page is drawn again, when acts have come in."""
    _component()(data=data, key=key, default={"outbox": None}, on_outbox_change=on_acts)
