"""The labeling page: who is there, then one of four views. Wiring only: see ``labeling_ui``, ``posewatch.labels``."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

HERE = str(Path(__file__).resolve().parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

from labeling_ui import label_view, people_view, progress_view, review_view, signing  # noqa: E402
from labeling_ui.common import Here, plain  # noqa: E402
from labeling_ui.texts import LANGUAGES, language_of, words  # noqa: E402
from posewatch.errors import PosewatchError  # noqa: E402
from posewatch.labels.team import roles  # noqa: E402

STYLE = """<style>
.block-container {padding: 2.2rem 2rem 0 2rem; max-width: 2200px}
[data-testid="stSidebar"] {min-width: 260px}
</style>"""


def language() -> str:
    """The browser's language, unless somebody chose another one in this page."""
    chosen = st.session_state.setdefault("language", language_of(st.context.locale))
    return str(chosen)


def main() -> None:
    st.set_page_config("posewatch labels", page_icon=":material/label:", layout="wide")
    st.html(STYLE)
    say = words(language())
    try:
        session = signing.session(say)
        if session is None:
            return
        here = Here(session.who, say)
        views = [
            st.Page(
                lambda: label_view.show(here),
                title=say["label"],
                icon=":material/grid_view:",
                url_path="label",
                default=True,
            ),
            st.Page(
                lambda: progress_view.show(here),
                title=say["progress"],
                icon=":material/monitoring:",
                url_path="progress",
            ),
        ]
        if roles.may(here.role, "adjudicate"):
            page = st.Page(
                lambda: review_view.show(here), title=say["review"], icon=":material/balance:", url_path="review"
            )
            views.insert(1, page)
        if roles.may(here.role, "grant"):
            page = st.Page(
                lambda: people_view.show(here), title=say["people"], icon=":material/group:", url_path="people"
            )
            views.append(page)
        chosen = st.navigation(views)
        chosen.run()
        with st.sidebar:
            st.divider()
            st.caption(say["signed_in"].format(who=plain(here.who), role=here.role))
            signing.sign_out(say)
            st.selectbox(say["language"], list(LANGUAGES), format_func=LANGUAGES.__getitem__, key="language")
    except PosewatchError as error:
        st.error(plain(str(error)), icon=":material/error:")


main()
