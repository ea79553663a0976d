"""Tickets: what the server gives out with each clip on a person's page, and wants back with each act on it.

So no act names a clip by its place on the page, and none reaches a clip that the person was not shown. A ticket says
how the clip was shown and needs no memory: it holds after a reload, in another replica and after a restart.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

import sqlalchemy as sa

from posewatch.errors import LabelError
from posewatch.labels.db import tables
from posewatch.labels.entries import BAD

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

SEEN, MISSING = "s", "m"
"""How a clip was shown: with somebody else's label; without a picture, because its file is missing."""


class Tickets:
    """Issues and checks the tickets of one person. ``secret`` signs them, together with the store's first grant."""

    def __init__(self, store: LabelStore, who: str, secret: str = "") -> None:
        grants = tables.grants
        first = store.database.rows(sa.select(grants.c.who, grants.c.by, grants.c.when).order_by(grants.c.id).limit(1))
        self._who, self._key = who, hashlib.sha256(f"tickets {secret} {[*map(tuple, first)]}".encode()).digest()

    def issue(self, clip: str, *, seen: bool = False, missing: bool = False) -> str:
        """The ticket of a clip that is shown now."""
        return self._sign(clip, (SEEN if seen else "") + (MISSING if missing else ""))

    def check(self, clip: str, ticket: object, label: str | None = None) -> bool:
        """Whether the page showed somebody else's label of the clip.

        Raises LabelError for a clip that was not on this person's page, and for a label other than "bad clip" where
        there was nothing to see.
        """
        how = str(ticket).partition(".")[0][:2]
        if not hmac.compare_digest(self._sign(clip, how).encode(), str(ticket).encode(errors="replace")):
            raise LabelError(f"clip {clip} was not on your page: reload the page and label it there")
        if MISSING in how and label not in (None, BAD):
            raise LabelError(f"clip {clip} cannot be seen: it can only be marked as a bad clip")
        return SEEN in how

    def _sign(self, clip: str, how: str) -> str:
        text = f"{how}\n{self._who}\n{clip}".encode(errors="replace")
        return f"{how}.{hmac.new(self._key, text, hashlib.sha256).hexdigest()[:24]}"
