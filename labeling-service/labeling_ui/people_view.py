"""For an admin: lists roles and grants them."""

from __future__ import annotations

import streamlit as st

from labeling_ui.common import Viewer, plain, table
from posewatch.errors import PosewatchError
from posewatch.labels.team import roles


def show(viewer: Viewer) -> None:
    texts, session = viewer.texts, viewer.session
    st.subheader(texts["roles"], anchor=False)
    granted = roles.all_roles(session.store)
    rows = [{texts["name"]: who, texts["role"]: texts[f"role_{role}"]} for who, role in granted.items()]
    table(viewer, rows, width=560)
    with st.form("role", clear_on_submit=True, width=560):
        name = st.text_input(texts["name"])
        role = st.selectbox(texts["role"], roles.ROLES, index=1, format_func=lambda one: texts[f"role_{one}"])
        if st.form_submit_button(texts["give_role"], type="primary"):
            try:
                session.set_role(name, str(role))
            except PosewatchError as error:
                st.error(plain(viewer.said(error)))
            else:
                st.toast(texts["role_given"].format(who=plain(name.strip()), role=texts[f"role_{role}"]))
                st.rerun()
