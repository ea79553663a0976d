"""The first page: the clips of the work queue in Streamlit's own HTML, before its scripts (0.7 MB) have arrived.

The grid of this page is the real one. What a person presses waits in the browser's outbox; Streamlit's page takes the
grid over as it is, and sends it. On a slow line Streamlit's scripts wait until the first clips play.
"""

from __future__ import annotations

import asyncio
import html
import json
import re
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labeling_ui import acts, grid, guide, label_view, sign_in, wiring
from labeling_ui.common import Viewer
from labeling_ui.compression import compressed
from labeling_ui.server import base
from labeling_ui.texts import catalogue, language_of
from posewatch.errors import PosewatchError
from posewatch.labels.team.identity import grant_first_roles

PATHS = ("", "/", "/label")
_PAGE = re.compile(r"/?[a-z_-]*")
"""Paths of pages, without those of files and of Streamlit's own."""
WAIT_S = 2.0
"""How long the page waits for the label store before it is sent without clips."""
_FONT = re.compile(r"<link[^>]*\brel=\"preload\"[^>]*\bas=\"font\"[^>]*>\s*")
_LOADS = re.compile(r"<script type=\"module\"[^>]*></script>|<link rel=\"(?:modulepreload|stylesheet)\"[^>]*>")
_CONDITIONS = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")


class FirstPage:
    """Adds the clips to the HTML of the labeling view; pages of other views only lose the preloaded font."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and scope["method"] == "GET"
        page = page and _PAGE.fullmatch(str(scope["path"]).removeprefix(base())) is not None
        if not page or "text/html" not in Headers(scope=scope).get("accept", ""):
            await self.app(scope, receive, send)
            return
        start: Message = {}
        body = bytearray()

        async def capture(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                body.extend(message.get("body", b""))

        plain = [(name, value) for name, value in scope["headers"] if name not in _CONDITIONS]
        clips, _ = await asyncio.gather(_clips(scope), self.app({**scope, "headers": plain}, receive, capture))
        headers = Headers(raw=start["headers"])
        if start["status"] != 200 or not headers.get("content-type", "").startswith("text/html"):
            await send({**start, "headers": [pair for pair in start["headers"] if pair[0] != b"content-length"]})
            await send({"type": "http.response.body", "body": bytes(body)})
            return
        content = amended(body.decode(), clips).encode()
        accepted = Headers(scope=scope).get("accept-encoding", "")
        encoding, content = await asyncio.to_thread(compressed, content, accepted)
        answer = Response(content, media_type="text/html", headers={"Cache-Control": "no-store", **encoding})
        await answer(scope, receive, send)


async def _clips(scope: Scope) -> dict[str, Any] | None:
    """What the grid gets, for a person who opens the labeling view; None where Streamlit's page must speak first."""
    request = HTTPConnection(scope)
    view = str(scope["path"]).removeprefix(base()) in PATHS and not scope["query_string"]
    if not view or "prefetch" in request.headers.get("sec-purpose", ""):
        return None
    try:
        return await asyncio.wait_for(asyncio.to_thread(_queue, request), WAIT_S)
    except (PosewatchError, TimeoutError):
        return None


def _queue(request: HTTPConnection) -> dict[str, Any] | None:
    """The first page of the queue as the labeling view gives it to the grid, with ``heading`` and ``left`` above."""
    who = sign_in.known(request)
    if who is None:
        return None
    grant_first_roles(wiring.label_store(), wiring.identity_config(), who)
    language = request.headers.get("accept-language", "").split(",")[0]
    viewer = Viewer(who, catalogue(language_of(language)))
    session = viewer.session
    cards = session.claim()
    if not cards:
        return None
    data = viewer.grid_data("label", label_view.queue_page([card.entry.clip.id for card in cards], 0))
    data.update(acts.shown(session, cards, acts.Answers(), viewer.tickets, base()), turns=["next"], queued=True)
    data["guide"] = guide.read(session, base())
    return {**data, "left": viewer.texts["queue_left"].format(left=session.remaining())}


def amended(page: str, data: dict[str, Any] | None) -> str:
    """Streamlit's HTML without its preloaded font; with ``data`` also the clips, before all that Streamlit loads."""
    page = _FONT.sub("", page)
    if data is None:
        return page
    later = "\n".join(_LOADS.findall(page))
    script, style = grid.sources((*grid.PARTS, "first.js"))
    outside = (grid.FOLDER / "first.css").read_text(encoding="utf-8")
    content = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    words = {name: html.escape(str(text)) for name, text in data["words"].items() if isinstance(text, str)}
    first = f"""<style>{outside}</style>
<div id="posewatch-first"><aside>{words["loading"]}</aside><main><h3>{words["queue"]}</h3>
<p>{html.escape(data["left"])}</p><div class="host"></div></main></div>
<template id="posewatch-later">{later}</template>
<template id="posewatch-grid"><style>{style}</style><div class="grid"></div></template>
<script type="application/json" id="posewatch-data">{content}</script>
<script type="module">{script}</script>
"""
    return _LOADS.sub("", page).replace("</body>", f"{first}</body>", 1)
