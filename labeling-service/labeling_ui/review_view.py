"""For a reviewer: the clips on which people disagree, and nothing else; and what the model is sure of, in bulk."""

from __future__ import annotations

from typing import Any

import streamlit as st

from labeling_ui import acts
from labeling_ui.common import Here, told
from labeling_ui.grid import grid, outbox
from labeling_ui.server import base
from posewatch.labels.entries import BAD
from posewatch.labels.store import new_batch


def show(here: Here) -> None:
    _decide(here)
    with st.expander(here.say["accept_title"], icon=":material/smart_toy:"):
        _accept(here)


@st.fragment
@told
def _decide(here: Here) -> None:
    session, say, key = here.session, here.say, "review"
    answers = st.session_state.setdefault("answers", acts.Answers())
    turned = st.session_state.setdefault("turned review", {"context": None})

    def turn(act: dict[str, Any]) -> None:
        if act.get("kind") == "context":
            turned["context"] = act.get("clip")

    st.subheader(say["review"], anchor=False)
    cards = session.disagreements()
    if not cards:
        st.success(say["nothing_to_review"], icon=":material/handshake:")
    else:
        st.caption(say["to_review"].format(count=len(cards)))
    data = here.data("review", "review")
    data["marks"] = [mark for mark in data["marks"] if mark["label"] == BAD]  # a reviewer decides
    # nothing is decided yet, whatever most people say: the dropdown begins empty, and the number keys take any class
    shown = [{**acts.shown(card, base()), "label": None} for card in cards[: session.page_size]]
    data.update(cards=shown, saved=answers.saved, refused=answers.refused)
    if turned["context"]:
        around = session.around(str(turned["context"]))
        data["context"] = {"clip": turned["context"], "cards": [acts.shown(card, base()) for card in around]}
    grid(data, key, lambda: acts.handle(lambda: here.session, outbox(key), answers, turn, False))


def _accept(here: Here) -> None:
    say = here.say
    st.caption(say["accept_help"])
    threshold = st.slider(say["accept_threshold"], 0.5, 1.0, here.session.config.accept, 0.01, key="accept at")
    batch = st.session_state.setdefault("accept batch", new_batch())
    if st.button(say["accept_do"], icon=":material/done_all:"):
        made = here.session.accept(threshold, batch=batch)
        st.session_state["accept batch"] = new_batch()
        st.success(say["accepted"].format(count=len(made)))
