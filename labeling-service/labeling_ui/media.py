"""URLs of clips for the browser: presigned URLs of the object store, or URLs of this server that it has signed itself.

A labeler never sees the object store's credentials, and every URL expires. This server delivers skeletons (a browser
may not read them from an S3 server of another origin), the clips of a store that is a local folder, and with
POSEWATCH_MEDIA=server all clips, for an object store that browsers cannot reach.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from functools import cache
from pathlib import Path
from urllib.parse import quote

from posewatch.errors import NotFound, PosewatchError, StoreError
from posewatch.store import FolderStore, ObjectStore, open_store

URL_S = 3600
AWAY_S = 10.0
"""How long a store that gave no answer is not asked again."""
ROUTE = "/clips"
TYPES = {
    ".mp4": "video/mp4", ".json": "application/json", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm",
    ".mkv": "video/x-matroska",
}  # fmt: skip
"""What this server delivers. Raw videos of other kinds play in no browser."""
MAX_BYTES = 200_000_000
"""Of a video that this server reads as a whole to deliver it (POSEWATCH_MEDIA=server)."""
_away: dict[str, float] = {}
_SECRET = (os.environ.get("POSEWATCH_MEDIA_SECRET") or secrets.token_hex(32)).encode()


@cache
def object_store(uri: str) -> ObjectStore:
    """The object store at ``uri``, opened once."""
    return open_store(uri)


def _token(store: str, key: str, until: int) -> str:
    return hmac.new(_SECRET, f"{until}\n{store}\n{key}".encode(), hashlib.sha256).hexdigest()[:40]


def signed(store: str, key: str, base: str = "", now: float | None = None, route: str = ROUTE) -> str:
    """A URL of this server (below ``route``) for the object, valid for ``URL_S`` to 1.5 ``URL_S`` seconds."""
    half = URL_S // 2
    until = (int(time.time() if now is None else now) // half + 3) * half  # constant for half an hour, for caches
    query = f"store={quote(store, safe='')}&until={until}&token={_token(store, key, until)}"
    return f"{base}{route}/{quote(key)}?{query}"


def check(store: str, key: str, until: str, token: str, now: float | None = None) -> bool:
    """Whether the query of a URL from `signed` is authentic and has not expired."""
    if not until.isdigit() or int(until) < (time.time() if now is None else now):
        return False
    return hmac.compare_digest(_token(store, key, int(until)), token)


def clip_url(store: str, key: str, base: str = "") -> str:
    """A URL from which a browser can play the clip, with range requests; "" when the clip is missing.

    While the store gives no answer (`away`), "" says nothing about the clip.
    """
    if away(store):
        return ""
    try:
        objects = object_store(store)
        if isinstance(objects, FolderStore) and not objects.root.is_dir():
            raise StoreError(f"no such folder: {objects.root}")
        if isinstance(objects, FolderStore) or os.environ.get("POSEWATCH_MEDIA") == "server":
            return signed(store, key, base) if objects.exists(key) else ""
        return objects.url(key, URL_S)
    except NotFound:
        return ""
    except StoreError:
        _away[store] = time.monotonic() + AWAY_S
        return ""
    except PosewatchError:
        return ""


def video_url(store: str, key: str, base: str = "") -> str:
    """The same for a whole video of any length; "" for one that no browser plays, or that is too large to pass through
    this server."""
    if Path(key).suffix.lower() not in TYPES:
        return ""
    if os.environ.get("POSEWATCH_MEDIA") == "server":
        objects = object_store(store)
        if not isinstance(objects, FolderStore) and any(one.size > MAX_BYTES for one in objects.list(key)):
            return ""
    return clip_url(store, key, base)


def away(store: str) -> bool:
    """Whether the store has given no answer in the last AWAY_S seconds."""
    return time.monotonic() < _away.get(store, 0.0)


def file_of(store: str, key: str) -> Path | bytes:
    """The content behind a URL of `signed`: a local file, or the bytes of an object. Raises NotFound."""
    if Path(key).suffix.lower() not in TYPES:
        raise NotFound(f"no clip: {key}")
    objects = object_store(store)
    if isinstance(objects, FolderStore):
        path = Path(objects.url(key))
        if not path.is_file():
            raise NotFound(f"no such object: {key}")
        return path
    return objects.get(key)
