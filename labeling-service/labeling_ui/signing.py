"""Signing in: a session of the logic for whoever is there, or a page that asks them to sign in."""

from __future__ import annotations

from typing import Any

import streamlit as st

from labeling_ui import wiring
from posewatch.errors import NotAllowed
from posewatch.labels.session import LabelingSession
from posewatch.labels.team import identity


def who(say: dict[str, Any]) -> str | None:
    """Who is at the page, or None after a page that asks them to sign in was shown. Raises NotAllowed."""
    config = wiring.identity_config()
    if config.mode == "proxy":
        headers = {name.lower(): value for name, value in st.context.headers.items()}
        return identity.by_proxy(config, headers, st.context.ip_address)
    if config.mode == "oidc":
        if not st.user.is_logged_in:
            st.title(say["title"], anchor=False)
            st.write(say["please_sign_in"])
            st.button(say["sign_in"], on_click=st.login, type="primary", icon=":material/login:")
            return None
        return identity.by_oidc(st.user.to_dict())
    if not identity.is_local(st.context.ip_address):
        raise NotAllowed("this page runs for a development user on its own machine only")
    st.session_state.setdefault("who", identity.dev_name())
    with st.sidebar.expander(say["name"], icon=":material/badge:"):
        return str(st.text_input(say["name"], key="who", label_visibility="collapsed"))


def session(say: dict[str, Any]) -> LabelingSession | None:
    """A session for who is at the page. Raises NotAllowed for somebody without a role."""
    name = who(say)
    if name is None:
        return None
    store = wiring.label_store()
    identity.welcome(store, wiring.identity_config(), name.strip())
    return LabelingSession(store, name, wiring.label_config())


def sign_out(say: dict[str, Any]) -> None:
    """A button, where the page itself signed somebody in."""
    if wiring.identity_config().mode == "oidc":
        st.button(say["sign_out"], on_click=st.logout, icon=":material/logout:")
