"""Identifies the person at the page, or asks them to sign in."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st
from starlette.requests import HTTPConnection

from labeling_ui import wiring
from posewatch.errors import NotAllowed
from posewatch.labels.session import LabelingSession
from posewatch.labels.team import identity, roles


def user(texts: dict[str, Any]) -> str | None:
    """The person at the page, or None when they have been asked to sign in. Raises NotAllowed."""
    config = wiring.identity_config()
    if config.mode == "proxy":
        headers = {name.lower(): value for name, value in st.context.headers.items()}
        return identity.proxy_user(config, headers, st.context.ip_address)
    if config.mode == "oidc":
        if not st.user.is_logged_in:
            st.title(texts["title"], anchor=False)
            st.write(texts["please_sign_in"])
            st.button(texts["sign_in"], on_click=st.login, type="primary", icon=":material/login:")
            return None
        return identity.oidc_user(st.user.to_dict())
    if not identity.is_local(st.context.ip_address):
        raise NotAllowed("this page runs for a development user on its own machine only")
    st.session_state.setdefault("who", identity.dev_user())
    with st.sidebar.expander(texts["name"], icon=":material/badge:"):
        return str(st.text_input(texts["name"], key="who", label_visibility="collapsed"))


def known(request: HTTPConnection) -> str | None:
    """Who asks for a page, as far as the request tells; None when the page must ask first. Raises NotAllowed."""
    config = wiring.identity_config()
    if config.mode == "proxy":
        return identity.proxy_user(config, dict(request.headers), request.client.host if request.client else None)
    if config.mode == "dev":
        return identity.dev_user() or None
    try:  # Streamlit has no public reader of its cookie beside st.user, which needs the page's connection
        from streamlit.web.server.starlette.starlette_websocket import _get_signed_cookie_with_chunks as cookie
    except ImportError:
        return None
    signed = cookie(request.cookies, "_streamlit_user")
    user = json.loads(signed) if signed else {}
    return identity.oidc_user(user) if user.get("is_logged_in") else None


def person(texts: dict[str, Any]) -> str | None:
    """The name of the person at the page. Raises NotAllowed when they have no role."""
    name = user(texts)
    if name is None:
        return None
    store = wiring.label_store()
    identity.grant_first_roles(store, wiring.identity_config(), name.strip())
    if name.strip() and roles.may(roles.role_of(store, name.strip()), roles.JUDGE):
        return roles.known_as(store, name.strip())
    return LabelingSession(store, name, wiring.label_config(), unit=wiring.unit()).who


def sign_out(texts: dict[str, Any]) -> None:
    """A button, where the person has signed in on the page itself."""
    if wiring.identity_config().mode == "oidc":
        st.button(texts["sign_out"], on_click=st.logout, icon=":material/logout:")
