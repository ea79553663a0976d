"""HTTP POST that follows no redirect: urllib would make a GET without the body of it, and call that delivered."""

from __future__ import annotations

import urllib.request
from typing import Any


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer of 3xx is raised as HTTPError, as those of 4xx and 5xx are."""

    def redirect_request(self, *_: Any) -> None:
        return None


def post(request: urllib.request.Request, timeout_s: float) -> None:
    """Send ``request``, which has a body. Raises OSError (HTTPError where the answer is not 2xx) or HTTPException."""
    with urllib.request.build_opener(NoRedirect()).open(request, timeout=timeout_s):
        pass
