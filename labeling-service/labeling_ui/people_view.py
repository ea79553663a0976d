"""For an admin: who has which role, and giving one."""

from __future__ import annotations

import streamlit as st

from labeling_ui.common import Here, plain
from posewatch.errors import PosewatchError
from posewatch.labels.team import roles


def show(here: Here) -> None:
    say, session = here.say, here.session
    st.subheader(say["roles"], anchor=False)
    found = roles.everybody(session.store)
    st.dataframe({say["name"]: list(found), say["role"]: list(found.values())}, hide_index=True, width=560)
    with st.form("role", clear_on_submit=True, width=560):
        name = st.text_input(say["name"])
        role = st.selectbox(say["role"], roles.ROLES, index=1)
        if st.form_submit_button(say["give_role"], type="primary"):
            try:
                session.appoint(name, str(role))
            except PosewatchError as error:
                st.error(plain(str(error)))
            else:
                st.toast(say["role_given"].format(who=plain(name.strip()), role=role))
                st.rerun()
