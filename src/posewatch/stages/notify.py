"""One message to a webhook when a pipeline's run has ended: Slack, Mattermost and Teams show its ``text``."""

from __future__ import annotations

import http.client
import json
import logging
import os
import urllib.error
import urllib.request

from posewatch import posts
from posewatch.addresses import Address
from posewatch.errors import InputError
from posewatch.redact import redact, remember_webhook
from posewatch.retry import retry

VARIABLE = "POSEWATCH_WEBHOOK"
ATTEMPTS = 3
MAX_ERROR = 500
"""Characters of the run's error that are sent."""
ENDS = {
    "SUCCEEDED": "SUCCEEDED", "COMPLETE": "SUCCEEDED", "CACHED": "SUCCEEDED",
    "FAILED": "FAILED", "CANCELED": "CANCELED", "CANCELLED": "CANCELED",
}  # fmt: skip
"""How a run ended, by what the engine calls it: here as its API does, on a cluster as ML Metadata does.

A cluster often says RUNNING of a run that has ended (Kubeflow Pipelines 2.17, metadata/client.go): the state is set by
steps that run, so one that is taken from the cache, left out by a condition or killed leaves it as it was.
"""
UNKNOWN = "UNKNOWN"
_LOG = logging.getLogger(__name__)


def notify(
    url: str, pipeline: str, state: str, workflow: str, error: str = "", *, run: str = "", wait_s: float = 2.0
) -> bool:
    """POST the message to ``url`` (empty: POSEWATCH_WEBHOOK); True when it was accepted, False without a webhook.

    ``workflow`` is the engine's name of the run, which only its own tools know; ``run`` its id, "" without a server.

    When the webhook refuses, or does not answer in three attempts, this is logged and the result is False: a run must
    not fail because of its notification. The URL is not logged: with many services it is the secret. Raises InputError
    for a URL that is not http(s).
    """
    url = url or os.environ.get(VARIABLE, "")
    if not url:
        return False
    address = Address.parse(url)
    if address.scheme not in ("http", "https") or address.doubtful or address.user or not url.isascii() or " " in url:
        raise InputError(f"the webhook must be an http:// or https:// URL (parameter webhook, or {VARIABLE})")
    remember_webhook(url)
    body = json.dumps(payload(pipeline, state, workflow, error, run)).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})

    def post() -> None:
        try:
            posts.post(request, 10)
        except urllib.error.HTTPError as error:
            error.close()
            raise

    try:
        retry(post, _passes, attempts=ATTEMPTS, first_s=wait_s, max_s=4 * wait_s)
    except (OSError, http.client.HTTPException) as failure:
        status = getattr(failure, "code", None)
        reason = f"HTTP {status}" if status else getattr(failure, "reason", failure)
        _LOG.warning("posewatch: the webhook at %s was not notified: %s", address.place, redact(str(reason)))
        return False
    return True


def payload(pipeline: str, state: str, workflow: str, error: str = "", run: str = "") -> dict[str, str]:
    """The message: ``text`` for people, and pipeline, state, run, workflow and error for programs."""
    error, state = " ".join(redact(error).split())[:MAX_ERROR], ENDS.get(state, UNKNOWN)
    how = "has ended, and Kubeflow does not say how: see the run" if state == UNKNOWN else state.lower()
    more = f"posewatch pipeline logs {run}" if run else f"run {workflow}"
    text = f"posewatch {pipeline}: {how}" + (f" - {error}" if error else "") + f" ({more})"
    about = {"run": run or workflow, "workflow": workflow, "error": error}
    return {"text": text, "pipeline": pipeline, "state": state, **about}


def _passes(error: BaseException) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code == 429
    return isinstance(error, OSError)
