"""The server around the page: the gate that refuses requests without identity, signed clips, readiness, metrics."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import streamlit as st
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from labeling_ui import alarm_routes, media, metrics, wiring
from posewatch.errors import NotAllowed, NotFound, PosewatchError
from posewatch.labels.team.identity import is_local, proxy_user

OPEN = ("/_stcore/health", "/_stcore/script-health-check", "/_stcore/metrics", "/ready", "/metrics")
"""Paths of probes, without identity; no answer names a person or a clip."""
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
    """Refuses every request without identity, before Streamlit sees it; with ``oidc`` the page itself asks for it."""

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

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _admit(self, scope: Scope) -> None:
        peer = scope["client"][0] if scope.get("client") else None
        if self.config.mode == "proxy":
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            proxy_user(self.config, headers, peer)
        elif self.config.mode == "dev" and not is_local(peer):
            raise NotAllowed(
                "this page runs for a development user on its own machine only: set POSEWATCH_AUTH to oidc or proxy"
            )


async def _clip(request: Request) -> Response:
    key, query = request.path_params["key"], request.query_params
    store = query.get("store", "")
    if not media.check(store, key, query.get("until", ""), query.get("token", "")):
        return PlainTextResponse("this address has expired: reload the page\n", 403)
    try:
        content = await asyncio.to_thread(media.file_of, store, key)
    except NotFound:
        return PlainTextResponse("no such clip\n", 404)
    except PosewatchError:  # the page tells a clip that is missing from a store that is down
        return PlainTextResponse("the clips' store gives no answer\n", 503)
    kind = media.TYPES[f".{key.rsplit('.', 1)[-1].lower()}"]
    headers = {"Cache-Control": "private, max-age=1800"}
    if isinstance(content, bytes):
        return _part(content, request.headers.get("range", ""), kind, headers)
    return FileResponse(content, media_type=kind, headers=headers)


def _part(data: bytes, requested: str, kind: str, headers: dict[str, str]) -> Response:
    """The requested range, or everything: Safari plays videos only from servers that support ranges."""
    headers = {**headers, "Accept-Ranges": "bytes"}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", requested.strip())
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
    """Whether the database answers: a pod that cannot save labels must not get requests."""
    try:
        await asyncio.to_thread(wiring.ping)
    except PosewatchError as error:
        return PlainTextResponse(f"not ready: {error}\n", 503)
    return PlainTextResponse("ready\n")


async def _metrics(_: Request) -> Response:
    return PlainTextResponse(await asyncio.to_thread(metrics.text), media_type="text/plain; version=0.0.4")


def routes() -> list[Route]:
    """The paths of this server besides Streamlit's own."""
    return [
        Route(f"{base()}{media.ROUTE}/{{key:path}}", _clip),
        Route(f"{base()}/ready", _ready),
        Route(f"{base()}/metrics", _metrics),
        *alarm_routes.routes(base()),
    ]
