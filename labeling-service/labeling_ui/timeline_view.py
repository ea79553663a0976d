"""The timeline of one video: its clips in a strip, played one after the other, and intervals that label them."""

from __future__ import annotations

from typing import Any

import streamlit as st

from labeling_ui import acts, guide, metrics
from labeling_ui.common import Viewer, errors_shown, plain
from labeling_ui.grid import grid, outbox
from labeling_ui.server import base
from posewatch.errors import LabelStoreDown
from posewatch.labels.session import LabelingSession
from posewatch.records import LabelEvent

KEY = "timeline"
STRETCH = 240
"""Clips that the strip shows at once: twelve minutes of clips of three seconds."""


@errors_shown
def show(viewer: Viewer) -> None:
    session = viewer.session
    videos = [video.video_id for video in session.videos()]
    if not videos:
        st.info(viewer.texts["no_clips"], icon=":material/movie:")
        return
    _strip(viewer, videos)


@st.fragment
@errors_shown
@metrics.timed("page")
def _strip(viewer: Viewer, videos: list[str]) -> None:
    answers = st.session_state.setdefault("answers", acts.Answers())
    view = st.session_state.setdefault("view timeline", {"context": None, "asked": None})

    def navigate(act: dict[str, Any]) -> None:
        kind = act.get("kind")
        if kind == "context":
            view["context"] = act
        elif act.get("page") != view.get("page"):  # the act may be sent twice
            return
        elif kind in ("next", "previous") and 0 <= view["number"] + (1 if kind == "next" else -1) < view["pages"]:
            view["number"] += 1 if kind == "next" else -1
            view["start"] = ""
        elif kind in ("next", "previous", "later video", "earlier video"):
            at = videos.index(view["video"]) + (1 if kind in ("next", "later video") else -1)
            if 0 <= at < len(videos):
                st.query_params.from_dict({"video": videos[at]})

    def reveal(events: list[LabelEvent]) -> None:
        number = _long(viewer).page_of(view["video"], events[0].clip_id)
        view["number"] = view["number"] if number is None else number

    def on_acts() -> None:
        viewer.handle(outbox(KEY), answers, navigate, reveal=reveal)

    _open_address(viewer, view, videos)
    try:
        view["data"] = _page(viewer, view, videos, answers)
    except LabelStoreDown as error:
        if "data" not in view:
            raise
        view["data"].update(saved=answers.saved, refused=answers.refused, kept=str(error), told=[])
    grid(view["data"], KEY, on_acts, "timeline")


def _long(viewer: Viewer) -> LabelingSession:
    session = viewer.session
    session.page_size = STRETCH
    return session


def _open_address(viewer: Viewer, view: dict[str, Any], videos: list[str]) -> None:
    """Turn to the video and the clip of the address when it changes."""
    asked = st.query_params.get("video", ""), st.query_params.get("clip", "")
    if view["asked"] == asked:
        return
    entries = viewer.session.store.clips(clip_ids=[asked[1]])
    video = entries[0].clip.video_id if entries else asked[0]
    video = video if video in videos else videos[0]
    view.update(asked=asked, video=video, start=asked[1], number=_long(viewer).page_of(video, asked[1]))


def _page(viewer: Viewer, view: dict[str, Any], videos: list[str], answers: acts.Answers) -> dict[str, Any]:
    session, texts, video = _long(viewer), viewer.texts, view["video"]
    page = session.page(video, view["number"])
    view.update(number=page.number, pages=page.pages, page=f"timeline {video} {page.number}")
    st.subheader(plain(page.cards[0].entry.video) if page.cards else texts["timeline"], anchor=False)
    text = texts["video_labelled"].format(done=page.labelled, total=page.clips)
    st.progress(page.labelled / max(1, page.clips), f"{text} · {page.number + 1} / {page.pages}")
    data = viewer.grid_data("timeline", view["page"])
    data.update(acts.shown(session, page.cards, answers, viewer.tickets, base()), start=view["start"])
    at = videos.index(video)
    more = {"previous": page.number > 0, "next": page.number < page.pages - 1}
    others = {"previous": at > 0, "next": at < len(videos) - 1}
    data["turns"] = [turn for turn in more if more[turn] or others[turn]]
    turned = {turn: texts[f"{turn}_video"] for turn in more if not more[turn]}
    data["words"] = {**texts, **turned}
    data["min_overlap_s"] = session.config.min_overlap_s
    data["context"], data["guide"] = acts.context(session, view["context"], base()), guide.guide(session, base())
    return data
