"""The labeling page: identifies the person, then shows one of the views. See ``labeling_ui``, ``posewatch.labels``."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote

import streamlit as st

HERE = str(Path(__file__).resolve().parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

from labeling_ui import (  # noqa: E402
    alarms_view,
    find_view,
    label_view,
    people_view,
    progress_view,
    review_view,
    sign_in,
    timeline_view,
)
from labeling_ui.common import Viewer, plain  # noqa: E402
from labeling_ui.refusals import translated  # noqa: E402
from labeling_ui.texts import LANGUAGES, catalogue, language_of  # noqa: E402
from posewatch.errors import PosewatchError  # noqa: E402
from posewatch.labels.team import roles  # noqa: E402

# a symbol of Streamlit's would be fetched from another host
ICON = "data:image/svg+xml," + quote(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path fill="#0f766e" d="M3 4h11l7 8-7 8H3z"/></svg>'
)
STYLE = """<style>
.block-container {padding: 1rem 2rem 0 2rem; max-width: 2200px}
.block-container h3 {padding: .2rem 0}
[data-testid="stSidebar"][aria-expanded="true"] {min-width: 260px}
[data-testid="stCaptionContainer"] p {color: color-mix(in srgb, currentColor, CanvasText 45%)}
:is([data-testid="stSidebar"], [data-testid="stMain"]) :is(a, button, summary, input):focus-visible,
  [data-testid="stMain"]:focus-visible, [data-baseweb="select"]:focus-within
  {outline: 3px solid #2563eb; outline-offset: -3px}
[data-testid="stSliderThumbValue"] {color: inherit}
@media (max-width: 1100px) {  /* tables side by side would be cut off */
  .block-container [data-testid="stHorizontalBlock"] {flex-direction: column}
  .block-container [data-testid="stColumn"] {width: 100%; flex: none}
}
/* with the list at the left closed, Streamlit's header would lie over the classes: its button stands in the margin */
[data-testid="stHeader"] {background: none}
[data-testid="stHeader"], [data-testid="stToolbar"] {pointer-events: none}
[data-testid="stToolbar"] :is(button, a) {pointer-events: auto}
[data-testid="stExpandSidebarButton"] {position: fixed; left: 1px; top: 8px}
/* Streamlit's words about a lost connection: the page's own say that the labels are kept */
[data-testid="stDialog"], [data-baseweb="modal"] {display: none}
</style>"""
# URL (and key of the title), function, icon and needed permission of each view; a string here would be shown as text
VIEWS = (
    ("label", label_view.show, "grid_view", "label"),
    ("timeline", timeline_view.show, "view_timeline", "label"),
    ("review", review_view.show, "balance", "adjudicate"),
    ("alarms", alarms_view.show, "notifications", roles.JUDGE),
    ("find", find_view.show, "search", "see others"),
    ("progress", progress_view.show, "monitoring", "label"),
    ("people", people_view.show, "group", "grant"),
)


def main() -> None:
    st.set_page_config("posewatch labels", page_icon=ICON, layout="wide")
    st.html(STYLE)
    # the browser's language, unless another one was selected on the page
    texts = catalogue(str(st.session_state.setdefault("language", language_of(st.context.locale))))
    try:
        who = sign_in.person(texts)
        if who is None:
            return
        viewer = Viewer(who, texts)
        role = viewer.role
        views = {
            name: st.Page(
                lambda show=show: show(viewer),
                title=texts[name],
                icon=f":material/{icon}:",
                url_path=name,
                default=name == "label",
                # who may not judge, but has the address, is told so there
                visibility="visible" if roles.may(role, permission) else "hidden",
            )
            for name, show, icon, permission in VIEWS
            if roles.may(role, permission) or name == "alarms"
        }
        if "label" not in views:  # an operator: the addresses of the page are the same for everybody
            go = lambda: st.switch_page(views["alarms"], query_params=st.query_params.to_dict())  # noqa: E731
            views["home"] = st.Page(go, title=texts["alarms"], url_path="home", default=True, visibility="hidden")
        page = st.navigation(list(views.values()))
        page.run()
        with st.sidebar:
            if not page.url_path:  # the list of videos stands above; elsewhere Streamlit's own line is enough
                st.divider()
            st.caption(texts["signed_in"].format(who=plain(viewer.who), role=texts[f"role_{role}"]))
            sign_in.sign_out(texts)
            st.selectbox(texts["language"], list(LANGUAGES), format_func=LANGUAGES.__getitem__, key="language")
    except PosewatchError as error:
        st.error(plain(translated(str(error), texts["code"])), icon=":material/error:")


main()
