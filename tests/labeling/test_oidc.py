"""Signing in with OpenID Connect, in the browser, at a provider of the test's own."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit", reason="the labeling extra is not installed")
pytest.importorskip("authlib", reason="Authlib is not installed")

from labeling.conftest import free_port, make_clips, serve
from labeling.provider import Provider
from labeling.test_browser import CARDS, ready, saved, until

from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles


@pytest.fixture
def provider() -> Any:
    provider = Provider(free_port())
    thread = threading.Thread(target=provider.server.run, daemon=True)
    thread.start()
    while not provider.server.started:
        time.sleep(0.05)
    yield provider
    provider.server.should_exit = True
    thread.join(timeout=10)


def test_who_signs_in_labels_under_their_address(provider: Provider, browse: Any, tmp_path: Path):
    port = free_port()
    secret = tmp_path / ".streamlit" / "secrets.toml"
    secret.parent.mkdir()
    secret.write_text(
        f'[auth]\nredirect_uri = "http://127.0.0.1:{port}/oauth2callback"\ncookie_secret = "{"x" * 40}"\n'
        f'client_id = "posewatch"\nclient_secret = "s"\n'
        f'server_metadata_url = "{provider.url}/.well-known/openid-configuration"\n'
    )
    url = f"sqlite:///{tmp_path / 'labels.db'}"
    store = LabelStore(url)
    store.register(make_clips(tmp_path / "objects", {"yard.mp4": 2}))
    for who in ("ann@x.org", "member@x.org"):
        roles.set_role(store, who, "labeler", "operator")
    env = {"POSEWATCH_LABELS_URL": url, "POSEWATCH_AUTH": "oidc", "HOME": str(tmp_path)}
    address, process = serve(env, tmp_path / "log", port=port, cwd=tmp_path)

    def sign_in(email: str) -> Any:
        page = browse(address)
        page.get_by_role("button", name="Sign in").click()
        page.locator('input[name="email"]').fill(email)
        page.get_by_role("button", name="Sign in").click()
        return page

    try:
        stranger = browse(address)
        stranger.get_by_text("Sign in to see clips").wait_for()
        assert stranger.locator(CARDS).count() == 0
        ann = ready(sign_in("ann@x.org"), 2)
        ann.keyboard.press("2")
        saved(ann)
        until(lambda: [event.who for event in store.current().values()], ["ann@x.org"])
        html = {"headers": {"accept": "text/html"}}
        assert '"who": "ann@x.org"' in ann.request.get(address, **html).text(), "the clips are in the page itself"
        assert "posewatch-first" not in stranger.request.get(address, **html).text()
        ann.get_by_role("button", name="Sign out").click()
        ann.get_by_text("Sign in to see clips").wait_for()
        member = sign_in("member@x.org")
        member.get_by_text("member@x.org (labeler)").wait_for()  # Streamlit says so, over its websocket
        cookies = sum(len(cookie["value"]) for cookie in member.context.cookies())
        assert cookies > 8192, "more than websockets takes by itself"
        sign_in("eve@x.org").get_by_text("has no role here").wait_for()
        sign_in("unverified@x.org").get_by_text("is not verified").wait_for()
    finally:
        process.terminate()
        process.wait(timeout=60)
        store.close()
