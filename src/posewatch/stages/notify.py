"""One message to a webhook when a pipeline's run has ended: Slack, Mattermost and Teams show its ``text``."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from posewatch.errors import InputError

VARIABLE = "POSEWATCH_WEBHOOK"
ATTEMPTS = 3
LONGEST = 500


def message(pipeline: str, state: str, run: str, error: str = "") -> dict[str, str]:
    """What is sent: ``text`` for people, and pipeline, state, run and error for programs."""
    error = " ".join(error.split())[:LONGEST]
    text = f"posewatch {pipeline}: {state.lower()}" + (f" - {error}" if error else "") + f" (run {run})"
    return {"text": text, "pipeline": pipeline, "state": state, "run": run, "error": error}


def tell(url: str, pipeline: str, state: str, run: str, error: str = "", *, wait_s: float = 2.0) -> bool:
    """POST the message to ``url`` (empty: POSEWATCH_WEBHOOK); True when it was taken, False when there is no webhook.

    A webhook that does not answer is tried three times, then said on stderr and False: a run must not fail because
    nobody could be told. The URL is not printed: with many services it is the secret. Raises InputError for a URL that
    is not http(s).
    """
    url = url or os.environ.get(VARIABLE, "")
    if not url:
        return False
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise InputError(f"the webhook must be an http:// or https:// URL (parameter webhook, or {VARIABLE})")
    body = json.dumps(message(pipeline, state, run, error)).encode()
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(wait_s * 2 ** (attempt - 1))
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10):
                return True
        except urllib.error.HTTPError as refused:
            refused.close()
            problem = f"HTTP {refused.code}"
            if refused.code < 500 and refused.code != 429:
                break
        except OSError as failed:
            problem = str(getattr(failed, "reason", failed))
    print(f"posewatch: the webhook at {urlsplit(url).hostname} was not told: {problem}", file=sys.stderr)
    return False
