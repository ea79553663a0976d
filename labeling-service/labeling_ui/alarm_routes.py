"""What the page Alarms fetches besides Streamlit: whether there is news, and a record's boxes, joints and curve."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections import OrderedDict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from labeling_ui import media, wiring
from posewatch import alarms
from posewatch.errors import NotFound, PosewatchError
from posewatch.labels.alarm_picture import picture

NEWS, ABOUT = "/records/news", "/records/about"
KEPT = 64
"""Records whose pictures are kept in memory: colleagues look at the same ones."""
_pictures: OrderedDict[str, tuple[bytes, bool]] = OrderedDict()
_lock = threading.Lock()


def stamp() -> str:
    """Changes with the records and the verdicts. Raises StoreError and LabelStoreDown."""
    return f"{wiring.alarm_index().refresh()} {wiring.judged().refresh()}"


def news_url(store: str, base: str) -> str:
    return media.signed(store, "news", base, route=NEWS)


def about_url(store: str, prefix: str, base: str) -> str:
    return media.signed(store, prefix, base, route=ABOUT)


def raw_url(store: str, prefix: str, base: str) -> str:
    """Where a record's clip as it was recorded is, for who may see it; "" while the store gives no answer."""
    return media.clip_url(store, f"{prefix}/{alarms.RAW}", base)


def _allowed(request: Request, key: str) -> bool:
    query = request.query_params
    return media.check(query.get("store", ""), key, query.get("until", ""), query.get("token", ""))


async def _news(request: Request) -> Response:
    if not _allowed(request, "news"):
        return PlainTextResponse("this address has expired: reload the page\n", 403)
    at = request.query_params.get("at", "")
    return JSONResponse(await asyncio.to_thread(_state, at), headers={"Cache-Control": "no-store"})


def _state(at: str) -> dict[str, Any]:
    """The stamp, whether the record ``at`` that is looked at was deleted, and whether a store is away."""
    try:
        found = stamp()
        gone = at.startswith(f"{alarms.ROOT}/") and not wiring.alarm_index().exists(at)
        return {"stamp": found, "gone": gone, "away": False}
    except PosewatchError:
        return {"stamp": "", "gone": False, "away": True}


def _about(base: str) -> Any:
    async def answer(request: Request) -> Response:
        prefix = request.path_params["key"]
        if not _allowed(request, prefix):
            return PlainTextResponse("this address has expired: reload the page\n", 403)
        store = request.query_params["store"]
        try:
            whole = await asyncio.to_thread(_whole, store, prefix, base)
        except NotFound:
            wiring.alarm_index().forget(prefix)  # the store may go on naming it
            return PlainTextResponse("no such record\n", 404)
        except PosewatchError:
            return PlainTextResponse("the store of the alarms gives no answer\n", 503)
        headers = {"Cache-Control": "no-store"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            whole, headers["Content-Encoding"] = await asyncio.to_thread(gzip.compress, whole, 1), "gzip"
        return Response(whole, media_type="application/json", headers=headers)

    return answer


def _whole(store: str, prefix: str, base: str) -> bytes:
    """A record as the browser gets it: its picture, and where its masked clip is ("" without one).

    Of the clip as it was recorded, which shows everybody, it says only whether there is one (``raw_url``).
    """
    body, masked = _picture(prefix)
    url = media.clip_url(store, f"{prefix}/{alarms.MASKED}", base) if masked else ""
    more = json.dumps({"url": url, "away": media.away(store)}).encode()
    return b"%s, %s" % (body[:-1], more[1:])


def _picture(prefix: str) -> tuple[bytes, bool]:
    """The picture of a record as JSON, and whether it has a masked clip. Raises NotFound for one that was deleted."""
    if (known := _pictures.get(prefix)) and wiring.alarm_index().exists(prefix):
        return known
    record = alarms.read(wiring.alarm_store(), prefix)
    files = record.artifact.files
    found = json.dumps({**picture(record), "raw": alarms.RAW in files}).encode(), alarms.MASKED in files
    with _lock:
        _pictures[prefix] = found
        while len(_pictures) > KEPT:
            _pictures.popitem(last=False)
    return found


def routes(base: str) -> list[Route]:
    return [Route(f"{base}{NEWS}/news", _news), Route(f"{base}{ABOUT}/{{key:path}}", _about(base))]
