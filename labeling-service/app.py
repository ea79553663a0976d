"""The labeling page: choose a video, watch its clips loop in a grid, say what each one shows. Wiring only: what a
labeler does is `posewatch.labels.session`, and every change is an event in the label store before the page answers.

Read from the environment: POSEWATCH_LABELS_URL (the label store), POSEWATCH_CONFIG (the experiment whose classes are
offered), POSEWATCH_USER (who is labelling, until signed in otherwise) and what the object store needs.
"""

from __future__ import annotations

import getpass
import os
import re
from pathlib import Path

import streamlit as st

from posewatch.config import LabelConfig, load
from posewatch.errors import PosewatchError
from posewatch.labels.entries import VideoProgress
from posewatch.labels.session import Card, LabelingSession, Page
from posewatch.labels.store import LabelStore
from posewatch.store import ObjectStore, open_store

URL_S = 3600
STYLE = """<style>
.block-container {padding-top: 2.5rem; padding-bottom: 2rem}
[data-testid="stVideo"] {border-radius: .4rem; background: #000; aspect-ratio: 4 / 3; object-fit: contain}
</style>"""


@st.cache_resource
def label_store(url: str | None) -> LabelStore:
    return LabelStore(url)


@st.cache_resource
def object_store(uri: str) -> ObjectStore:
    return open_store(uri)


@st.cache_resource
def label_config(source: str) -> LabelConfig:
    return load(source).labels


# a new presigned URL would make the browser load the clip again, so one is kept for half of its life
@st.cache_data(ttl=URL_S // 2, show_spinner=False)
def clip_url(store: str, key: str) -> str:
    return object_store(store).url(key, URL_S)


def plain(text: str) -> str:
    """Text of unknown origin, such as a file name, with its Markdown switched off."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~:$<>&])", r"\\\1", text)


def user() -> str:
    """The development user; the name is asked for, not proven."""
    try:
        known = os.environ.get("POSEWATCH_USER") or getpass.getuser()
    except (KeyError, OSError):
        known = ""
    return st.sidebar.text_input("Your name", known, key="who", help="Every label carries the name of who gave it.")


def choose_video(session: LabelingSession) -> VideoProgress | None:
    videos = {video.video_id: video for video in session.videos()}
    if not videos:
        return None
    clips = sum(video.clips for video in videos.values())
    labelled = sum(video.labelled for video in videos.values())
    st.sidebar.progress(labelled / clips, f"{labelled} of {clips} clips labelled")
    chosen = st.sidebar.radio(
        "Videos",
        list(videos),
        format_func=lambda video: plain(videos[video].name),
        captions=[f"{_done(v)} {v.labelled} of {v.clips}" for v in videos.values()],
        key="video",
    )
    return videos[chosen]


def _done(video: VideoProgress) -> str:
    return ":green[:material/check_circle:]" if video.labelled == video.clips else ":gray[:material/circle:]"


def save(session: LabelingSession, clip_id: str) -> None:
    """What a dropdown does when it changes: an emptied one takes the label back."""
    try:
        session.label(clip_id, st.session_state[f"label {clip_id}"])
    except PosewatchError as error:
        st.session_state["problem"] = str(error)


def show_card(session: LabelingSession, card: Card) -> None:
    clip = card.entry.clip
    try:
        url = clip_url(card.entry.store, card.entry.key)
        if "://" not in url and not Path(url).is_file():
            raise FileNotFoundError
        st.video(url, loop=True, autoplay=True, muted=True)
    except (PosewatchError, FileNotFoundError):
        st.warning("This clip is not in the object store.", icon=":material/videocam_off:")
    key = f"label {clip.id}"
    st.session_state[key] = card.label  # what the store says, which another labeler may have changed
    st.selectbox(
        f"Label of clip {clip.id}",
        session.classes,
        index=None,
        key=key,
        placeholder="What does it show?",
        label_visibility="collapsed",
        on_change=save,
        args=(session, clip.id),
    )
    nobody = " · nobody seen" if clip.people == 0 else ""
    st.caption(f"{clip.start_s:.1f} – {clip.end_s:.1f} s{nobody} · {_origin(card)}")


def _origin(card: Card) -> str:
    if card.suggestion:
        return f":violet-badge[:material/smart_toy: model says {plain(card.suggestion)}?]"
    if card.source == "import":
        return ":blue-badge[:material/description: from a file]"
    if card.label:
        return f":green-badge[:material/person: {plain(card.who)}]"
    return ":gray[not labelled]"


def show_page(session: LabelingSession, video: VideoProgress) -> None:
    key = f"page {video.video_id}"
    chosen: int | None = st.session_state.get(key)  # None when the video is opened: it opens where the work stopped
    page: Page = session.page(video.video_id, None if chosen is None else chosen - 1)
    st.subheader(plain(video.name), anchor=False)
    st.progress(page.labelled / max(page.clips, 1), f"{page.labelled} of {page.clips} clips of this video labelled")
    with st.grid(4, min_column_width=220, gap="small"):
        for card in page.cards:
            with st.container(border=True, gap="small", key=f"card {card.entry.clip.id}"):
                show_card(session, card)
    if page.pages > 1:
        st.pagination(page.pages, default=page.number + 1, key=key)


def main() -> None:
    st.set_page_config("posewatch labels", page_icon=":material/label:", layout="wide")
    st.html(STYLE)
    st.sidebar.title("posewatch labels", anchor=False)
    who = user()
    try:
        session = LabelingSession(
            label_store(os.environ.get("POSEWATCH_LABELS_URL")),
            who,
            label_config(os.environ.get("POSEWATCH_CONFIG") or "default"),
        )
        video = choose_video(session)
        if problem := st.session_state.pop("problem", None):
            st.error(problem, icon=":material/error:")
        if video is None:
            st.info("There are no clips yet. Run `posewatch prepare` and reload this page.", icon=":material/movie:")
        else:
            show_page(session, video)
    except PosewatchError as error:
        st.error(str(error), icon=":material/error:")


main()
