"""The labeling view: the list of videos with their progress, and the clips of one video or of the work queue."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from labeling_ui import acts, guide, metrics, wiring
from labeling_ui.common import Viewer, errors_shown, only_caption, plain
from labeling_ui.grid import grid, outbox
from labeling_ui.server import base
from posewatch.errors import LabelStoreDown
from posewatch.labels.cards import Card
from posewatch.labels.entries import VideoProgress
from posewatch.labels.session import LabelingSession
from posewatch.names import folded
from posewatch.records import LabelEvent

QUEUE = "queue"
REDRAW_S, QUERY_S = 2.0, 20.0
"""The list is redrawn every REDRAW_S. It queries the database after acts on this page, else every QUERY_S."""
LISTED = 30
"""Videos in the list at once; a text field above it finds the others."""


def show(viewer: Viewer) -> None:
    st.session_state.pop("listed", None)
    _ = viewer.session  # what makes it impossible is said here, too: the list at the left can be hidden
    _open_address(viewer)
    with st.sidebar:
        _list(viewer)
    chosen = st.session_state.get("video")
    if chosen is None:
        st.info(viewer.texts["no_clips"], icon=":material/movie:")
        return
    _clips(viewer, chosen)


def _open_address(viewer: Viewer) -> None:
    """Turn to the clip or the video that the address names, once."""
    asked = st.query_params.get("clip", ""), st.query_params.get("video", "")
    if st.session_state.get("asked", ("", "")) == asked:
        return
    st.session_state["asked"] = asked
    session = viewer.session
    entries = session.store.clips(clip_ids=[asked[0]]) or session.store.clips(video_id=asked[1])
    if entries:
        video = entries[0].clip.video_id
        st.session_state["video"] = video
        view = st.session_state.setdefault(
            f"view {video}", {"number": None, "clips": [], "context": None, "moment": None}
        )
        view.update(number=session.page_of(video, asked[0]), start=asked[0])


@st.fragment(run_every=REDRAW_S)
@errors_shown
def _list(viewer: Viewer) -> None:
    """The list of videos, redrawn soon after each label of this page and regularly, because other people label too."""
    if problem := wiring.config_problem():
        st.warning(viewer.texts["config_broken"].format(reason=plain(problem)), icon=":material/warning:")
    only_caption(viewer)
    before = st.session_state.get("chosen")
    chosen = _choose(viewer)
    st.session_state["chosen"] = chosen
    if before is not None and chosen != before:
        st.rerun()


def _choose(viewer: Viewer) -> str | None:
    """The selected video's id, or the queue; None when there are no clips at all."""
    texts = viewer.texts
    videos, left = _progress(viewer)
    if not videos:
        return None
    total, done = sum(v.clips for v in videos.values()), sum(v.labelled for v in videos.values())
    st.progress(done / total, texts["all_labelled"].format(done=done, total=total))
    matches = list(videos)
    if len(videos) > LISTED:
        part = st.text_input(texts["find_video"], key="find").strip()
        matches = [video for video in matches if folded(part) in folded(videos[video].name)]
    if len(videos) > 1 and st.toggle(texts["open_only"], key="open only"):
        matches = [video for video in matches if videos[video].labelled < videos[video].clips]
    selected = st.session_state.get("video", QUEUE)
    shown = matches[:LISTED]
    if selected != QUEUE and selected in videos and selected not in shown:
        shown = [selected, *shown[: LISTED - 1]]  # the selected video stays in the list, even when it is done
    if selected != QUEUE and selected not in shown:
        st.session_state["video"] = QUEUE  # only then: a value that is set here would undo a click of the same moment
    chosen: str = st.radio(
        texts["videos"],
        [QUEUE, *shown],
        format_func=lambda one: f"**{texts['queue']}**" if one == QUEUE else plain(videos[one].name),
        captions=[
            texts["queue_left"].format(left=left),
            *(f"{_done(videos[v])} {videos[v].labelled} / {videos[v].clips}" for v in shown),
        ],
        key="video",
    )
    if len(matches) > len(shown):
        st.caption(texts["more_videos"].format(more=len(matches) - len(shown)))
    return chosen


def _progress(viewer: Viewer) -> tuple[dict[str, VideoProgress], int]:
    """The videos by id and the number of clips left in the queue, cached until an act of this page or for QUERY_S."""
    cached = st.session_state.get("listed")
    now, acts = time.monotonic(), st.session_state.get("acts", 0)
    if cached is None or cached["acts"] != acts or now - cached["at"] > QUERY_S:
        session = viewer.session
        videos = {video.video_id: video for video in session.videos()}
        cached = {"acts": acts, "at": now, "videos": videos, "left": session.remaining()}
        st.session_state["listed"] = cached
    return cached["videos"], cached["left"]


def _done(video: Any) -> str:
    return ":green[:material/check_circle:]" if video.labelled == video.clips else ":gray[:material/circle:]"


@st.fragment
@errors_shown
@metrics.timed("page")
def _clips(viewer: Viewer, chosen: str) -> None:
    key = f"grid {chosen}"
    answers = st.session_state.setdefault("answers", acts.Answers())
    view = st.session_state.setdefault(f"view {chosen}", {"number": None, "clips": [], "context": None, "moment": None})

    def navigate(act: dict[str, Any]) -> None:
        if act.get("kind") == "context":
            view["context"] = act
        elif act.get("kind") == "moment":
            view["moment"] = act.get("clip")
        elif act.get("kind") == "refresh" or act.get("page") != st.session_state.get("shown"):  # or sent twice
            return
        elif view["moment"]:
            view["moment"] = view["around"].get(act.get("kind")) or view["moment"]
        else:
            view["clips"] = []
            step = {"next": 1, "previous": -1}.get(str(act.get("kind")), 0)
            view["number"] = max(0, int(view["shown"]) + step)

    def reveal(events: list[LabelEvent]) -> None:
        """What an undo changed comes onto the page: the queue takes the clips in, a video turns to their page."""
        changed = [event.clip_id for event in events]
        if chosen == QUEUE:
            view["clips"] = [*(clip for clip in changed if clip not in view["clips"]), *view["clips"]]
        else:
            number = viewer.session.page_of(chosen, changed[0])
            view["number"] = view["number"] if number is None else number

    def on_acts() -> None:
        sent = outbox(key)
        if any(act.get("kind") == "example" for act in sent):
            guide.forget()
        viewer.handle(sent, answers, navigate, chosen == QUEUE, reveal)
        st.session_state["acts"] = st.session_state.get("acts", 0) + 1  # the list of videos is outdated now

    try:
        view["data"] = _page(viewer, chosen, view, answers)
    except LabelStoreDown as error:
        if "data" not in view:
            raise
        # the page stays as it was, and goes on to keep what is pressed
        view["data"].update(saved=answers.saved, refused=answers.refused, kept=str(error), told=[])
    grid(view["data"], key, on_acts)


def queue_page(clips: list[str], number: int) -> str:
    """The name of a page of the queue: it changes with the first clip and with every turn."""
    return f"{QUEUE} {'-'.join(clips[:1])} {number}"


def _page(viewer: Viewer, chosen: str, view: dict[str, Any], answers: acts.Answers) -> dict[str, Any]:
    """The page of a video or of the queue as the grid gets it, below its heading."""
    session, texts = viewer.session, viewer.texts
    if view["moment"]:
        cards, page, turns = _moment(viewer, session, view)
    elif chosen == QUEUE:
        due = time.monotonic() - view.get("renewed", 0.0) > session.config.claim_s / 10
        cards = session.claim(view["clips"], renew=due)
        if due:
            view["renewed"] = time.monotonic()
        view["clips"] = [card.entry.clip.id for card in cards]
        view["shown"] = int(view["number"] or 0)
        page, turns = queue_page(view["clips"], view["shown"]), ["next"]
        st.subheader(texts["queue"], anchor=False)
        st.caption(texts["queue_left"].format(left=session.remaining()))
        if not cards:
            st.success(texts["queue_empty"], icon=":material/celebration:")
    else:
        clips = session.page(chosen, view["number"])
        cards, view["number"], view["shown"] = clips.cards, clips.number, clips.number
        page = f"{chosen} {clips.number}"
        turns = [*(["previous"] if clips.number else []), *(["next"] if clips.number < clips.pages - 1 else [])]
        st.subheader(plain(cards[0].entry.video) if cards else texts["videos"], anchor=False)
        text = texts["video_labelled"].format(done=clips.labelled, total=clips.clips)
        st.progress(clips.labelled / max(1, clips.clips), f"{text} · {clips.number + 1} / {clips.pages}")
    st.session_state["shown"] = page
    data = viewer.grid_data("label", page)
    data["moment"] = view["moment"]
    data.update(
        acts.shown(session, cards, answers, viewer.tickets, base()),
        turns=turns,
        queued=chosen == QUEUE and not view["moment"],
    )
    data["context"], data["guide"] = acts.context(session, view["context"], base()), guide.guide(session, base())
    data["start"] = view.get("start", "")
    return data


def _moment(viewer: Viewer, session: LabelingSession, view: dict[str, Any]) -> tuple[tuple[Card, ...], str, list[str]]:
    """Everybody at one moment of a video: the cards, the name of the page, and where it turns to."""
    moment = session.moment(str(view["moment"]))
    view["around"] = {"previous": moment.previous, "next": moment.next}
    first = next((card.entry for card in moment.cards if card.entry.clip.id == view["moment"]), moment.cards[0].entry)
    st.subheader(plain(first.video), anchor=False)
    times = {"start": f"{first.clip.start_s:.1f}", "end": f"{first.clip.end_s:.1f}", "count": len(moment.cards)}
    st.caption(viewer.texts["moment_about"].format(**times))
    return moment.cards, f"moment {view['moment']}", [name for name, clip in view["around"].items() if clip]
