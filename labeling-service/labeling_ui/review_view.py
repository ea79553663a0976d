"""For a reviewer: the clips on which people disagree, and bulk acceptance of confident predictions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import streamlit as st

from labeling_ui import acts, guide
from labeling_ui.common import Viewer, errors_shown, only_caption
from labeling_ui.grid import grid, outbox
from labeling_ui.grid import sample as grid_of_samples
from labeling_ui.server import base
from posewatch.labels import acceptance
from posewatch.labels.acceptance import Acceptable
from posewatch.labels.entries import BAD
from posewatch.labels.session import LabelingSession
from posewatch.labels.store import new_batch


def show(viewer: Viewer) -> None:
    _decide(viewer)
    part = st.expander(viewer.texts["accept_title"], icon=":material/smart_toy:", key="accept open", on_change="rerun")
    if part.open:  # looking through all predictions takes time
        with part:
            _accept(viewer)


@st.fragment
@errors_shown
def _decide(viewer: Viewer) -> None:
    session, texts, key = viewer.session, viewer.texts, "review"
    answers = st.session_state.setdefault("answers", acts.Answers())
    view = st.session_state.setdefault("view review", {"context": None})

    def navigate(act: dict[str, Any]) -> None:
        if act.get("kind") == "context":
            view["context"] = act

    st.subheader(texts["review"], anchor=False)
    only_caption(viewer)
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
    data["context"], data["guide"] = acts.context(session, view["context"], base()), guide.guide(session, base())

    def on_acts() -> None:
        guide.forget()
        viewer.handle(outbox(key), answers, navigate)

    grid(data, key, on_acts)


def _accept(viewer: Viewer) -> None:
    texts = viewer.texts
    st.caption(texts["accept_help"])
    threshold = st.slider(texts["accept_threshold"], 0.5, 1.0, viewer.session.config.accept, 0.01, key="accept at")
    session = viewer.session
    batch = st.session_state.setdefault("accept batch", new_batch())
    accepted = st.session_state.pop("accepted", None)
    if accepted is not None:
        st.success(texts["accepted"].format(count=accepted))
    found = session.acceptable(threshold)
    if not found:
        st.info(texts["accept_none"])
        return
    _sample(viewer, session, found)
    if st.button(texts["accept_do"].format(count=len(found)), icon=":material/done_all:", type="primary"):
        # what was looked at, and nothing that has come since
        events = session.accept(threshold, [one.clip_id for one in found], batch=batch)
        st.session_state["accept batch"] = new_batch()
        st.session_state["accepted"] = len(events)
        st.rerun()


def _sample(viewer: Viewer, session: LabelingSession, found: list[Acceptable]) -> None:
    """Some clips of each class, from the least to the most confident."""
    counts = Counter(one.label for one in found)
    groups = []
    for label, some in acceptance.sample(found).items():
        confidence = {one.clip_id: one.confidence for one in some}
        cards = [acts.payload(card, base()) for card in session.cards(confidence)]
        title = viewer.texts["accept_sample"].format(label=label, count=counts[label], some=len(cards))
        groups.append({"title": title, "cards": [{**card, "confidence": confidence[card["id"]]} for card in cards]})
    data = {**viewer.grid_data("sample", "sample"), "groups": groups}
    grid_of_samples(data, key="accept sample")
