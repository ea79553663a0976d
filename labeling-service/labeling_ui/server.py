"""What stands around the page: the gate that lets nobody in without identity, signed clips, readiness, metrics."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import streamlit as st
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from labeling_ui import media, metrics, wiring
from posewatch.errors import NotAllowed, PosewatchError
from posewatch.labels.team.identity import by_proxy, is_local

OPEN = ("/_stcore/health", "/_stcore/script-health-check", "/_stcore/metrics", "/ready", "/metrics")
"""What probes ask, without identity; nothing in it names a person or a clip."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"SAMEORIGIN"),
)


def base() -> str:
    """The path below which the page is served, "" or "/prefix"."""
    path = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{path}" if path else ""


class Gate:
    """Refuses every request without identity, before Streamlit sees it; ``oidc`` is asked for by the page itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.config = app, wiring.identity_config()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        path = str(scope.get("path", "")).removeprefix(base())
        try:
            if path not in OPEN:
                self._admit(scope)
        except NotAllowed as error:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 4403, "reason": str(error)[:120]})
            else:
                await PlainTextResponse(f"{error}\n", 403)(scope, receive, send)
            return

        async def dressed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self.app(scope, receive, dressed)

    def _admit(self, scope: Scope) -> None:
        peer = scope["client"][0] if scope.get("client") else None
        if self.config.mode == "proxy":
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            by_proxy(self.config, headers, peer)
        elif self.config.mode == "dev" and not is_local(peer):
            raise NotAllowed(
                "this page runs for a development user on its own machine only: set POSEWATCH_AUTH to oidc or proxy"
            )


async def _clip(request: Request) -> Response:
    key, told = request.path_params["key"], request.query_params
    store = told.get("store", "")
    if not media.check(store, key, told.get("until", ""), told.get("token", "")):
        return PlainTextResponse("this address has expired: reload the page\n", 403)
    try:
        found = await asyncio.to_thread(media.file_of, store, key)
    except PosewatchError:
        return PlainTextResponse("no such clip\n", 404)
    kind = media.TYPES[f".{key.rsplit('.', 1)[-1]}"]
    keep = {"Cache-Control": "private, max-age=1800"}
    if isinstance(found, bytes):
        return _part(found, request.headers.get("range", ""), kind, keep)
    return FileResponse(found, media_type=kind, headers=keep)


def _part(data: bytes, asked: str, kind: str, headers: dict[str, str]) -> Response:
    """What one range asks for, or all of it: Safari plays no video whose server knows no ranges."""
    headers = {**headers, "Accept-Ranges": "bytes"}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.strip())
    if match is None or match[0] == "bytes=-":
        return Response(data, media_type=kind, headers=headers)
    size = len(data)
    first, last = (int(match[1]), int(match[2] or size - 1)) if match[1] else (max(0, size - int(match[2])), size - 1)
    last = min(last, size - 1)
    if first > last:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return Response(data[first : last + 1], 206, media_type=kind, headers=headers)


async def _ready(_: Request) -> Response:
    """Whether the database answers: a pod that cannot save must get no labelers."""
    try:
        await asyncio.to_thread(wiring.ping)
    except PosewatchError as error:
        return PlainTextResponse(f"not ready: {error}\n", 503)
    return PlainTextResponse("ready\n")


async def _metrics(_: Request) -> Response:
    text = await asyncio.to_thread(metrics.text)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


def routes() -> list[Route]:
    """Everything that this server answers besides Streamlit's own paths."""
    return [
        Route(f"{base()}{media.ROUTE}/{{key:path}}", _clip),
        Route(f"{base()}/ready", _ready),
        Route(f"{base()}/metrics", _metrics),
    ]
