"""Waits until an InferenceService, or one canary of it, is ready; fails as soon as it cannot become so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posewatch.errors import ServingError
from posewatch.kube.cluster import Cluster, flat
from posewatch.kube.polling import poll
from posewatch.progress import Progress

API, KIND = "serving.kserve.io/v1beta1", "InferenceService"
POLL_S = 2.0
_FAILED = ("BlockedByFailedLoad", "InvalidSpec")


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
    what = f"InferenceService {namespace}/{name}" + (f" (canary {canary})" if canary else "")
    remedy = f"see `kubectl -n {namespace} describe inferenceservice {name}`"
    failed_before = False

    def check() -> tuple[str | None, str]:
        nonlocal failed_before
        service = cluster.get(API, KIND, name, namespace)
        if service is None:
            raise ServingError(f"{what} does not exist: was it deleted?")
        current, state, model = _state(service, canary)
        failed = current and model.get("transitionStatus") in _FAILED
        # A failure counts when it is seen twice: right after an update the status can still be of the version before.
        if failed and failed_before:
            raise ServingError(
                f"{what} cannot serve its model ({model['transitionStatus']}): {_failure(model) or state}; {remedy}"
            )
        failed_before = failed
        if not current or state != "ready":
            return None, state
        url = url_of(service)
        return (url, state) if url or canary else (None, "ready, but it has no URL yet")

    def timed_out(state: str) -> Exception:
        return ServingError(f"{what} was not ready after {timeout_s:g} s: {state}; {remedy}")

    with Cluster(context) as cluster:
        every_s = POLL_S if poll_s is None else poll_s
        return poll(check, timeout_s, every_s, timed_out, what=what, progress=progress)


def url_of(service: Mapping[str, Any]) -> str:
    """The address of an InferenceService; "" until its status has one."""
    status = service.get("status") or {}
    return str(status.get("url") or (status.get("address") or {}).get("url") or "")


def _state(service: Mapping[str, Any], canary: str) -> tuple[bool, str, Mapping[str, Any]]:
    """Whether the status is of the newest generation; "ready" or what is missing, for people; its modelStatus."""
    status = service.get("status") or {}
    model: Mapping[str, Any] = status.get("modelStatus") or {}
    if status.get("observedGeneration") != service["metadata"].get("generation"):
        return False, "KServe's controller has not looked at it yet (is KServe running?)", model
    if canary:
        row = next((c for c in status.get("canaryStatuses") or () if c.get("name") == canary), None)
        if row is None:
            return (
                False,
                "KServe reports nothing of the canary yet (KServe 0.20 or newer, deploymentMode Standard?)",
                {},
            )
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
        f"{kind}={c.get('status')}" + (f" ({flat(': '.join(reasons))})" if reasons else "")
        for kind, c in sorted(conditions.items())
        if c.get("status") != "True"
        for reasons in [list(filter(None, (c.get("reason"), c.get("message"))))]
    ]
    return True, "; ".join([*missing, f"model {transition}"]), model


def _failure(model: Mapping[str, Any]) -> str:
    info = model.get("lastFailureInfo") or {}
    return flat(": ".join(filter(None, (info.get("reason"), info.get("message")))))
