"""The page of the paper: videos with their progress, and the clips of one of them (or of the queue) to be labelled."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from labeling_ui import acts, metrics
from labeling_ui.common import Here, plain, told
from labeling_ui.grid import grid, outbox
from labeling_ui.server import base
from posewatch.labels.cards import Card
from posewatch.labels.entries import VideoProgress

QUEUE = "queue"
LOOK_S, RENEW_S = 2.0, 20.0
"""The list is drawn anew every LOOK_S; it asks the database after labels of this page, else every RENEW_S."""
LISTED = 30
"""Videos in the list at once; a name typed above it finds the others."""


def show(here: Here) -> None:
    st.session_state.pop("listed", None)
    with st.sidebar:
        _list(here)
    chosen = st.session_state.get("video")
    if chosen is None:
        st.info(here.say["no_clips"], icon=":material/movie:")
        return
    _clips(here, chosen)


@st.fragment(run_every=LOOK_S)
@told
def _list(here: Here) -> None:
    """The videos with their progress: soon after each label here, and now and then, for others are at work too."""
    before = st.session_state.get("chosen")
    chosen = _choose(here)
    st.session_state["chosen"] = chosen
    if before is not None and chosen != before:
        st.rerun()


def _choose(here: Here) -> str | None:
    """The queue or the id of a video; None when there are no clips at all."""
    say = here.say
    videos, left = _progress(here)
    if not videos:
        return None
    total, done = sum(v.clips for v in videos.values()), sum(v.labelled for v in videos.values())
    st.progress(done / total, say["all_labelled"].format(done=done, total=total))
    found = list(videos)
    if len(videos) > LISTED:
        part = st.text_input(say["find_video"], key="find").strip().casefold()
        found = [video for video in found if part in videos[video].name.casefold()]
    if len(videos) > 1 and st.toggle(say["open_only"], key="open only"):
        found = [video for video in found if videos[video].labelled < videos[video].clips]
    kept = st.session_state.get("video", QUEUE)
    shown = found[:LISTED]
    if kept != QUEUE and kept in videos and kept not in shown:
        shown = [kept, *shown[: LISTED - 1]]  # the video at hand stays, even when it is done
    st.session_state["video"] = kept if kept in shown else QUEUE
    chosen: str = st.radio(
        say["videos"],
        [QUEUE, *shown],
        format_func=lambda one: f"**{say['queue']}**" if one == QUEUE else plain(videos[one].name),
        captions=[
            say["queue_left"].format(left=left),
            *(f"{_done(videos[v])} {videos[v].labelled} / {videos[v].clips}" for v in shown),
        ],
        key="video",
    )
    if len(found) > len(shown):
        st.caption(say["more_videos"].format(more=len(found) - len(shown)))
    return chosen


def _progress(here: Here) -> tuple[dict[str, VideoProgress], int]:
    """The videos by id and the clips left in the queue, as they were when something last may have changed them."""
    kept = st.session_state.get("listed")
    now, acts = time.monotonic(), st.session_state.get("acts", 0)
    if kept is None or kept["acts"] != acts or now - kept["at"] > RENEW_S:
        session = here.session
        videos = {video.video_id: video for video in session.videos()}
        kept = {"acts": acts, "at": now, "videos": videos, "left": session.left()}
        st.session_state["listed"] = kept
    return kept["videos"], kept["left"]


def _done(video: Any) -> str:
    return ":green[:material/check_circle:]" if video.labelled == video.clips else ":gray[:material/circle:]"


@st.fragment
@told
def _clips(here: Here, chosen: str) -> None:
    watch = metrics.Watch()
    session, say, key = here.session, here.say, f"grid {chosen}"
    answers = st.session_state.setdefault("answers", acts.Answers())
    turned = st.session_state.setdefault(f"turned {chosen}", {"number": None, "kept": [], "context": None})

    def turn(act: dict[str, Any]) -> None:
        if act.get("kind") == "context":
            turned["context"] = act.get("clip")
        elif act.get("page") == st.session_state.get("shown"):  # sent twice, turned once
            turned["kept"] = []
            step = {"next": 1, "previous": -1}.get(str(act.get("kind")), 0)
            turned["number"] = max(0, int(turned["shown"]) + step)

    def on_acts() -> None:
        acts.handle(lambda: here.session, outbox(key), answers, turn, chosen == QUEUE)
        st.session_state["acts"] = st.session_state.get("acts", 0) + 1  # the list beside it is old now

    if chosen == QUEUE:
        due = time.monotonic() - turned.get("renewed", 0.0) > session.config.claim_s / 10
        cards = session.claim(turned["kept"], renew=due)
        if due:
            turned["renewed"] = time.monotonic()
        turned["kept"] = [card.entry.clip.id for card in cards]
        turned["shown"] = int(turned["number"] or 0)
        page, turns = f"{QUEUE} {'-'.join(turned['kept'][:1])} {turned['shown']}", ["next"]
        st.subheader(say["queue"], anchor=False)
        st.caption(say["queue_left"].format(left=session.left()))
        if not cards:
            st.success(say["queue_empty"], icon=":material/celebration:")
    else:
        found = session.page(chosen, turned["number"])
        cards, turned["number"], turned["shown"] = found.cards, found.number, found.number
        page = f"{chosen} {found.number}"
        turns = [*(["previous"] if found.number else []), *(["next"] if found.number < found.pages - 1 else [])]
        st.subheader(plain(cards[0].entry.video) if cards else say["videos"], anchor=False)
        text = say["video_labelled"].format(done=found.labelled, total=found.clips)
        st.progress(found.labelled / max(1, found.clips), f"{text} · {found.number + 1} / {found.pages}")
    st.session_state["shown"] = page
    data = here.data("label", page)
    data.update(cards=[acts.shown(card, base()) for card in cards], turns=turns, context=_context(here, turned))
    data.update(saved=answers.saved, refused=answers.refused)
    grid(data, key, on_acts)
    metrics.drawn(watch)


def _context(here: Here, turned: dict[str, Any]) -> dict[str, Any] | None:
    clip = turned.get("context")
    if not clip:
        return None
    around: tuple[Card, ...] = here.session.around(str(clip))
    return {"clip": clip, "cards": [acts.shown(card, base()) for card in around]}
