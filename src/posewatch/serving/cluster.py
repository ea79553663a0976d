"""The border to Kubernetes: server-side apply of plain dicts, and waiting for an InferenceService. Each failure ends in
one line that names the object and the remedy; the ``kubernetes`` package is imported only when a cluster is asked.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posewatch.errors import ServingError
from posewatch.progress import Progress

FIELD_MANAGER = "posewatch"
SETTLE_S = 10.0
"""How long an unknown kind is asked for again: a CRD that was just installed is a 404 for a moment."""
REQUEST_S = 30.0
_FAILED = ("BlockedByFailedLoad", "InvalidSpec")


class _Away(ServingError):
    """The API server gave no answer, or said that it is busy: a wait goes on, an apply does not."""


def apply(
    objects: Iterable[Mapping[str, Any]],
    *,
    namespace: str,
    context: str | None = None,
    field_manager: str = FIELD_MANAGER,
    force: bool = False,
) -> None:
    """Server-side apply each object, in order, into ``namespace``; an unchanged object stays untouched.

    ``context`` is a kubeconfig context (default: the current one, or the pod's service account inside a cluster).
    A field that another manager holds with another value raises ServingError unless ``force`` takes it over.
    """
    with _connect(context) as cluster:
        for body in objects:
            kind, name = body["kind"], body["metadata"]["name"]
            with _one_line(f"{kind} {namespace}/{name}", namespace):
                _settled(
                    cluster,
                    body["apiVersion"],
                    kind,
                    lambda resource, body=body: cluster.server_side_apply(
                        resource,
                        body=body,
                        namespace=namespace,
                        field_manager=field_manager,
                        force_conflicts=True if force else None,
                        _request_timeout=REQUEST_S,
                    ),
                )


def wait_ready(
    name: str,
    namespace: str,
    timeout_s: float,
    progress: Progress | None = None,
    *,
    context: str | None = None,
    poll_s: float = 2.0,
) -> str:
    """The URL of InferenceService ``name`` once its newest generation is ready and its model is up to date.

    Raises ServingError with the server's own words as soon as the model cannot load or the spec is invalid, and with
    the conditions that are still missing after ``timeout_s`` seconds.
    """
    what, deadline = f"InferenceService {namespace}/{name}", time.monotonic() + timeout_s
    last = failure = ""
    with _connect(context) as cluster:
        while True:
            try:
                with _one_line(what, namespace):
                    found = _settled(
                        cluster,
                        "serving.kserve.io/v1beta1",
                        "InferenceService",
                        lambda resource: resource.get(name=name, namespace=namespace, _request_timeout=REQUEST_S),
                    ).to_dict()
                current, state = _state(found)
                model = (found.get("status") or {}).get("modelStatus") or {}
            except _Away as error:
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
                status = found["status"]
                url = status.get("url") or status.get("address", {}).get("url")
                if url:
                    return str(url)
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
            time.sleep(min(poll_s, left))


def _state(found: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether the status speaks of the newest generation, and "ready" or what is missing, for people."""
    status = found.get("status") or {}
    if status.get("observedGeneration") != found["metadata"].get("generation"):
        return False, "KServe's controller has not looked at it yet (is KServe running?)"
    conditions = {c.get("type"): c for c in status.get("conditions", ())}
    transition = (status.get("modelStatus") or {}).get("transitionStatus", "unknown")
    ready = conditions.get("Ready", {}).get("status") == "True"
    if ready and transition == "UpToDate":
        return True, "ready"
    missing = [
        f"{kind}={c.get('status')}" + (f" ({_flat(': '.join(filter(None, told)))})" if any(told) else "")
        for kind, c in sorted(conditions.items())
        if c.get("status") != "True" and (told := (c.get("reason"), c.get("message"))) is not None
    ]
    return True, "; ".join([*missing, f"model {transition}"])


def _failure(model: Mapping[str, Any]) -> str:
    info = model.get("lastFailureInfo") or {}
    return _flat(": ".join(filter(None, (info.get("reason"), info.get("message")))))


@contextmanager
def _connect(context: str | None) -> Iterator[Any]:
    """A dynamic client with a discovery cache of its own: the shared one in the temp folder outlives its cluster."""
    try:
        import yaml
        from kubernetes import client, config
        from kubernetes.dynamic import DynamicClient
        from urllib3.exceptions import HTTPError
    except ImportError:
        raise ServingError("deploying to KServe needs another package: pip install 'posewatch[serving]'") from None
    settings = client.Configuration()
    # urllib3 would retry three times, with a warning each: a cluster that is away is told in one line instead.
    settings.retries = 0
    # Read here, because the client remembers what KUBECONFIG was when it was imported.
    file = os.environ.get("KUBECONFIG")
    try:
        if context is None and not file and os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(client_configuration=settings)
        else:
            config.load_kube_config(file or "~/.kube/config", context=context, client_configuration=settings)
    except (config.ConfigException, yaml.YAMLError, OSError, TypeError, ValueError) as error:
        raise ServingError(
            f"no usable kubeconfig: {_flat(str(error))} (set KUBECONFIG, or name a context of `kubectl config"
            " get-contexts`)"
        ) from None
    api = client.ApiClient(settings)
    try:
        with tempfile.TemporaryDirectory(prefix="posewatch-") as folder:
            try:
                api.call_api("/version", "GET", auth_settings=["BearerToken"], _request_timeout=10)
                cluster = DynamicClient(api, cache_file=str(Path(folder) / "discovery.json"))
            except client.ApiException as error:
                raise ServingError(
                    f"the cluster at {settings.host} refuses to talk: {error.status} {_message(error)}"
                    " (check `kubectl auth whoami`)"
                ) from None
            except HTTPError as error:
                raise _unreachable(settings.host, error) from None
            yield cluster
    finally:
        api.close()
        api.rest_client.pool_manager.clear()


def _settled(cluster: Any, api_version: str, kind: str, call: Any) -> Any:
    """``call(resource)``, asked again for a while as long as the server does not know the kind."""
    from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError

    deadline = time.monotonic() + SETTLE_S
    while True:
        try:
            return call(cluster.resources.get(api_version=api_version, kind=kind))
        except (ResourceNotFoundError, NotFoundError) as error:
            unknown = not isinstance(error, NotFoundError) or "could not find the requested resource" in _message(error)
            if not unknown:
                raise
            if time.monotonic() > deadline:
                raise ServingError(
                    f"the cluster does not know {kind} ({api_version}): install KServe 0.20 or newer first"
                ) from None
        time.sleep(0.5)
        cluster.resources.invalidate_cache()


@contextmanager
def _one_line(what: str, namespace: str) -> Iterator[None]:
    """Turns what the API server says about ``what`` into one line with the remedy."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        said = _message(error)
        if error.status == 409 and "conflict" in said.lower():
            raise ServingError(
                f"{what} has fields that another manager holds: {_conflicts(error)} (change them there, or take them"
                " over with --force)"
            ) from None
        remedy = {
            401: "log in again; `kubectl auth whoami` tells who you are",
            403: f"posewatch needs get, list, watch, create and patch in {namespace}; manifests/base grants them",
            404: f"create what is missing, e.g. the namespace {namespace}, with `kubectl apply -k manifests/base`",
        }.get(error.status)
        kind = _Away if error.status == 429 or (error.status >= 500 and "typed patch" not in said) else ServingError
        raise kind(f"the cluster refuses {what}: {error.status} {said}" + (f" ({remedy})" if remedy else "")) from None
    except HTTPError as error:
        raise _unreachable("its address", error) from None


def _unreachable(host: str, error: Exception) -> _Away:
    reason = str(getattr(error, "reason", None) or error)
    # urllib3 begins with its own object: "HTTPConnection(host=..., port=...): Failed to ..."
    text = _flat(reason.partition("): ")[2] or reason)
    return _Away(f"cannot reach the cluster at {host}: {text} (is it up, and is this the right context?)")


def _body(error: Any) -> dict[str, Any]:
    try:
        data = json.loads(error.body)
    except (TypeError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _message(error: Any) -> str:
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    return _flat(str(_body(error).get("message") or body or error.reason or ""))


def _conflicts(error: Any) -> str:
    """``conflict with "kubectl": .spec.replicas``, one per field, from the details or else from the message."""
    causes = (_body(error).get("details") or {}).get("causes") or ()
    told = [f"{c.get('message')}: {c.get('field')}" for c in causes if c.get("reason") == "FieldManagerConflict"]
    return _flat("; ".join(told) or _message(error))


def _flat(text: str, limit: int = 600) -> str:
    """One line of at most ``limit`` characters; Triton's load errors bring a table of many lines."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
