"""The labeling page: identifies the person, then shows one of four views. See ``labeling_ui``, ``posewatch.labels``."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

HERE = str(Path(__file__).resolve().parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

from labeling_ui import label_view, people_view, progress_view, review_view, sign_in  # noqa: E402
from labeling_ui.common import Viewer, plain  # noqa: E402
from labeling_ui.texts import LANGUAGES, catalogue, language_of  # noqa: E402
from posewatch.errors import PosewatchError  # noqa: E402
from posewatch.labels.team import roles  # noqa: E402

STYLE = """<style>
.block-container {padding: 2.2rem 2rem 0 2rem; max-width: 2200px}
[data-testid="stSidebar"] {min-width: 260px}
</style>"""


def language() -> str:
    """The browser's language, unless another one was selected on the page."""
    chosen = st.session_state.setdefault("language", language_of(st.context.locale))
    return str(chosen)


def main() -> None:
    st.set_page_config("posewatch labels", page_icon=":material/label:", layout="wide")
    st.html(STYLE)
    texts = catalogue(language())
    try:
        session = sign_in.session(texts)
        if session is None:
            return
        viewer = Viewer(session.who, texts)
        views = [
            st.Page(
                lambda: label_view.show(viewer),
                title=texts["label"],
                icon=":material/grid_view:",
                url_path="label",
                default=True,
            ),
            st.Page(
                lambda: progress_view.show(viewer),
                title=texts["progress"],
                icon=":material/monitoring:",
                url_path="progress",
            ),
        ]
        if roles.may(viewer.role, "adjudicate"):
            page = st.Page(
                lambda: review_view.show(viewer), title=texts["review"], icon=":material/balance:", url_path="review"
            )
            views.insert(1, page)
        if roles.may(viewer.role, "grant"):
            page = st.Page(
                lambda: people_view.show(viewer), title=texts["people"], icon=":material/group:", url_path="people"
            )
            views.append(page)
        chosen = st.navigation(views)
        chosen.run()
        with st.sidebar:
            st.divider()
            st.caption(texts["signed_in"].format(who=plain(viewer.who), role=viewer.role))
            sign_in.sign_out(texts)
            st.selectbox(texts["language"], list(LANGUAGES), format_func=LANGUAGES.__getitem__, key="language")
    except PosewatchError as error:
        st.error(plain(str(error)), icon=":material/error:")


main()
