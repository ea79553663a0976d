"""Waiting for an InferenceService, or for one canary of it, with the reason why not as soon as there is one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from posewatch.errors import ServingError
from posewatch.kube.cluster import REQUEST_S, Away, connect_for, flat, one_line, settled
from posewatch.progress import Progress

_FAILED = ("BlockedByFailedLoad", "InvalidSpec")
POLL_S = 2.0


def wait_ready(
    name: str,
    namespace: str,
    timeout_s: float,
    progress: Progress | None = None,
    *,
    canary: str = "",
    context: str | None = None,
    poll_s: float | None = None,
) -> str:
    """The URL of InferenceService ``name`` once its newest generation is ready and its model is up to date.

    With ``canary`` it waits for that canary instead, whatever the stable version does; the URL may then be empty.
    Raises ServingError with the server's own words as soon as the model cannot load or the spec is invalid, and with
    the conditions that are still missing after ``timeout_s`` seconds.
    """
    what, deadline = f"InferenceService {namespace}/{name}", time.monotonic() + timeout_s
    if canary:
        what += f" (canary {canary})"
    last = failure = ""
    with connect_for(context, timeout_s, f"{what} was not ready", progress) as cluster:
        while True:
            try:
                with one_line(what, namespace):
                    found = settled(
                        cluster,
                        "serving.kserve.io/v1beta1",
                        "InferenceService",
                        lambda resource: resource.get(name=name, namespace=namespace, _request_timeout=REQUEST_S),
                    ).to_dict()
                current, state, model = _state(found, canary)
            except Away as error:
                current, state, model = False, str(error), {}
            if current and model.get("transitionStatus") in _FAILED:
                # Seen twice: right after an update the status can still speak of the version before.
                if failure:
                    raise ServingError(
                        f"{what} cannot serve its model ({model['transitionStatus']}): {_failure(model) or state};"
                        f" see `kubectl -n {namespace} describe inferenceservice {name}`"
                    )
                failure = model["transitionStatus"]
            else:
                failure = ""
            if current and state == "ready":
                url = url_of(found)
                if url or canary:
                    return url
                state = "ready, but it has no URL yet"
            if progress and state != last:
                progress.say(f"{what}: {state}")
            last = state
            left = deadline - time.monotonic()
            if left <= 0:
                raise ServingError(
                    f"{what} was not ready after {timeout_s:g} s: {state};"
                    f" see `kubectl -n {namespace} describe inferenceservice {name}`"
                )
            time.sleep(min(POLL_S if poll_s is None else poll_s, left))


def url_of(found: Mapping[str, Any]) -> str:
    """Where an InferenceService answers, or "" as long as it does not say so."""
    status = found.get("status") or {}
    return str(status.get("url") or (status.get("address") or {}).get("url") or "")


def _state(found: Mapping[str, Any], canary: str) -> tuple[bool, str, Mapping[str, Any]]:
    """Whether the status speaks of the newest generation; "ready" or what is missing, for people; its modelStatus."""
    status = found.get("status") or {}
    model: Mapping[str, Any] = status.get("modelStatus") or {}
    if status.get("observedGeneration") != found["metadata"].get("generation"):
        return False, "KServe's controller has not looked at it yet (is KServe running?)", model
    if canary:
        row = next((c for c in status.get("canaryStatuses") or () if c.get("name") == canary), None)
        if row is None:
            return False, "KServe says nothing of the canary yet (KServe 0.20 or newer, deploymentMode Standard?)", {}
        model = row.get("modelStatus") or {}
        transition = model.get("transitionStatus", "unknown")
        if row.get("ready") and transition == "UpToDate":
            return True, "ready", model
        return True, f"pods {'ready' if row.get('ready') else 'not ready'}; model {transition}", model
    conditions = {c.get("type"): c for c in status.get("conditions", ())}
    transition = model.get("transitionStatus", "unknown")
    ready = conditions.get("Ready", {}).get("status") == "True"
    if ready and transition == "UpToDate":
        return True, "ready", model
    missing = [
        f"{kind}={c.get('status')}" + (f" ({flat(': '.join(filter(None, told)))})" if any(told) else "")
        for kind, c in sorted(conditions.items())
        if c.get("status") != "True" and (told := (c.get("reason"), c.get("message"))) is not None
    ]
    return True, "; ".join([*missing, f"model {transition}"]), model


def _failure(model: Mapping[str, Any]) -> str:
    info = model.get("lastFailureInfo") or {}
    return flat(": ".join(filter(None, (info.get("reason"), info.get("message")))))
