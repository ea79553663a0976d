"""For a reviewer: the clips on which people disagree, and bulk acceptance of confident predictions."""

from __future__ import annotations

from typing import Any

import streamlit as st

from labeling_ui import acts
from labeling_ui.common import Viewer, errors_shown
from labeling_ui.grid import grid, outbox
from labeling_ui.server import base
from posewatch.labels.entries import BAD
from posewatch.labels.store import new_batch


def show(viewer: Viewer) -> None:
    _decide(viewer)
    with st.expander(viewer.texts["accept_title"], icon=":material/smart_toy:"):
        _accept(viewer)


@st.fragment
@errors_shown
def _decide(viewer: Viewer) -> None:
    session, texts, key = viewer.session, viewer.texts, "review"
    answers = st.session_state.setdefault("answers", acts.Answers())
    view = st.session_state.setdefault("view review", {"context": None})

    def navigate(act: dict[str, Any]) -> None:
        if act.get("kind") == "context":
            view["context"] = act.get("clip")

    st.subheader(texts["review"], anchor=False)
    cards = session.disagreements()
    if not cards:
        st.success(texts["nothing_to_review"], icon=":material/handshake:")
    else:
        st.caption(texts["to_review"].format(count=len(cards)))
    data = viewer.grid_data("review", "review")
    data["marks"] = [mark for mark in data["marks"] if mark["label"] == BAD]
    # no majority label: the dropdown starts empty, so that the reviewer decides
    data.update(acts.shown(session, cards[: session.page_size], answers, viewer.tickets, base()))
    data["cards"] = [{**card, "label": None} for card in data["cards"]]
    data["context"] = acts.context(session, view["context"], base())

    def on_acts() -> None:
        tickets = viewer.tickets
        acts.handle(lambda: viewer.session, outbox(key), answers, navigate, False, lambda: tickets, say=viewer.said)

    grid(data, key, on_acts)


def _accept(viewer: Viewer) -> None:
    texts = viewer.texts
    st.caption(texts["accept_help"])
    threshold = st.slider(texts["accept_threshold"], 0.5, 1.0, viewer.session.config.accept, 0.01, key="accept at")
    batch = st.session_state.setdefault("accept batch", new_batch())
    if st.button(texts["accept_do"], icon=":material/done_all:"):
        events = viewer.session.accept(threshold, batch=batch)
        st.session_state["accept batch"] = new_batch()
        st.success(texts["accepted"].format(count=len(events)))
