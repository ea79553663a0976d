"""The guidelines as the browser gets them: each class with its text and its example clips."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import streamlit as st

from labeling_ui import acts
from posewatch.labels.session import LabelingSession

FRESH_S = 60.0
"""How long the guidelines are not read again, unless this page changes an example."""
SHOWN = 8
"""Examples of a class."""


def guide(session: LabelingSession, base: str) -> dict[str, Any]:
    """``classes``: label, text and examples of each class that has any; ``version`` changes with the texts."""
    cached = st.session_state.get("guide")
    if cached is None or cached["of"] != session.config or time.monotonic() - cached["at"] > FRESH_S:
        cached = {"of": session.config, "at": time.monotonic(), "data": read(session, base)}
        st.session_state["guide"] = cached
    data: dict[str, Any] = cached["data"]
    return data


def forget() -> None:
    """An example has changed: read the guidelines again."""
    st.session_state.pop("guide", None)


def read(session: LabelingSession, base: str) -> dict[str, Any]:
    """The same, without a cache."""
    about, examples = session.config.guide, session.examples()
    classes = []
    for label in session.classes:
        text = about[label].text.strip() if label in about else ""
        wanted = examples.get(label, [])[-SHOWN:]
        cards = [_shown(acts.payload(card, base)) for card in session.cards(wanted)]
        if text or cards:
            classes.append({"label": label, "text": text, "examples": cards})
    texts = repr([[one["label"], one["text"]] for one in classes])
    return {"classes": classes, "version": hashlib.sha256(texts.encode()).hexdigest()[:12] if classes else ""}


def _shown(card: dict[str, Any]) -> dict[str, Any]:
    # nobody's name, and no ticket: an example is only looked at
    return {
        name: card[name]
        for name in ("id", "video", "shown", "person", "start", "end", "fps", "url", "away", "skeleton")
    }
