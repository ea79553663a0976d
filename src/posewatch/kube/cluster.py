"""The border to Kubernetes: server-side apply, get and delete of plain dicts. Each failure ends in one line that names
the object and the remedy; the ``kubernetes`` package is imported only when a cluster is asked.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from posewatch.errors import ServingError
from posewatch.progress import Progress

FIELD_MANAGER = "posewatch"
_WANTED = {"serving.kserve.io": "KServe 0.20", "trainer.kubeflow.org": "Kubeflow Trainer 2.1"}
SETTLE_S = 10.0
"""How long an unknown kind is asked for again: a CRD that was just installed is a 404 for a moment."""
REQUEST_S = 30.0


class Away(ServingError):
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
    with connect(context) as cluster:
        for body in objects:
            kind, name = body["kind"], body["metadata"]["name"]
            with one_line(f"{kind} {namespace}/{name}", namespace):
                settled(
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


def get(api_version: str, kind: str, name: str, namespace: str, *, context: str | None = None) -> dict[str, Any] | None:
    """The object as a plain dict, or None where there is no such object (or not even such a namespace)."""
    from kubernetes.dynamic.exceptions import NotFoundError

    with connect(context) as cluster, one_line(f"{kind} {namespace}/{name}", namespace):
        try:
            found = settled(
                cluster,
                api_version,
                kind,
                lambda resource: resource.get(name=name, namespace=namespace, _request_timeout=REQUEST_S),
            )
        except NotFoundError:
            return None
        return dict(found.to_dict())


def delete(api_version: str, kind: str, name: str, namespace: str, *, context: str | None = None) -> bool:
    """Delete the object; it stays visible until what it owns has gone. False where it had gone already."""
    from kubernetes.dynamic.exceptions import NotFoundError

    options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
    with connect(context) as cluster, one_line(f"{kind} {namespace}/{name}", namespace):
        try:
            settled(
                cluster,
                api_version,
                kind,
                lambda resource: resource.delete(
                    name=name, namespace=namespace, body=options, _request_timeout=REQUEST_S
                ),
            )
        except NotFoundError:
            return False
        return True


@contextmanager
def connect(context: str | None) -> Iterator[Any]:
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
            f"no usable kubeconfig: {flat(str(error))} (set KUBECONFIG, or name a context of `kubectl config"
            " get-contexts`)"
        ) from None
    api = client.ApiClient(settings)
    try:
        with tempfile.TemporaryDirectory(prefix="posewatch-") as folder:
            try:
                api.call_api("/version", "GET", auth_settings=["BearerToken"], _request_timeout=10)
                cluster = DynamicClient(api, cache_file=str(Path(folder) / "discovery.json"))
            except client.ApiException as error:
                kind = Away if error.status == 429 or error.status >= 500 else ServingError
                raise kind(
                    f"the cluster at {settings.host} refuses to talk: {error.status} {message(error)}"
                    " (check `kubectl auth whoami`)"
                ) from None
            except HTTPError as error:
                raise _unreachable(settings.host, error) from None
            yield cluster
    finally:
        api.close()
        api.rest_client.pool_manager.clear()


@contextmanager
def connect_for(context: str | None, seconds: float, what: str, progress: Progress | None) -> Iterator[Any]:
    """As ``connect`` for somebody who waits: a server that is away is asked again for ``seconds``, and ``progress``
    told. Raises ServingError, which begins with ``what``, when it stays away.
    """
    deadline, last = time.monotonic() + seconds, ""
    with ExitStack() as stack:
        while True:
            try:
                cluster = stack.enter_context(connect(context))
                break
            except Away as error:
                if time.monotonic() > deadline:
                    raise ServingError(f"{what} after {seconds:g} s: {error}") from None
                if progress and str(error) != last:
                    progress.say(str(error))
                last = str(error)
            time.sleep(min(1.0, seconds))
        yield cluster


def settled(cluster: Any, api_version: str, kind: str, call: Any) -> Any:
    """``call(resource)``, asked again for a while as long as the server does not know the kind."""
    from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError

    deadline = time.monotonic() + SETTLE_S
    while True:
        try:
            return call(cluster.resources.get(api_version=api_version, kind=kind))
        except (ResourceNotFoundError, NotFoundError) as error:
            unknown = not isinstance(error, NotFoundError) or "could not find the requested resource" in message(error)
            if not unknown:
                raise
            if time.monotonic() > deadline:
                raise ServingError(
                    f"the cluster does not know {kind} ({api_version}): install"
                    f" {_WANTED.get(api_version.partition('/')[0], 'what defines it')} or newer first"
                ) from None
        time.sleep(0.5)
        cluster.resources.invalidate_cache()


@contextmanager
def one_line(what: str, namespace: str) -> Iterator[None]:
    """Turns what the API server says about ``what`` into one line with the remedy."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        said = message(error)
        if error.status == 409 and "conflict" in said.lower():
            raise ServingError(
                f"{what} has fields that another manager holds: {_conflicts(error)} (change them there, or take them"
                " over with --force)"
            ) from None
        remedy = {
            401: "log in again; `kubectl auth whoami` tells who you are",
            403: f"manifests/base/rbac.yaml lists the rights that posewatch needs in {namespace}",
            404: f"create what is missing, e.g. the namespace {namespace}, with `kubectl apply -k manifests/base`",
        }.get(error.status)
        kind = Away if error.status == 429 or (error.status >= 500 and "typed patch" not in said) else ServingError
        raise kind(f"the cluster refuses {what}: {error.status} {said}" + (f" ({remedy})" if remedy else "")) from None
    except HTTPError as error:
        raise _unreachable("its address", error) from None


def _unreachable(host: str, error: Exception) -> Away:
    reason = str(getattr(error, "reason", None) or error)
    # urllib3 begins with its own object: "HTTPConnection(host=..., port=...): Failed to ..."
    text = flat(reason.partition("): ")[2] or reason)
    return Away(f"cannot reach the cluster at {host}: {text} (is it up, and is this the right context?)")


def _body(error: Any) -> dict[str, Any]:
    try:
        data = json.loads(error.body)
    except (TypeError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def message(error: Any) -> str:
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    return flat(str(_body(error).get("message") or body or error.reason or ""))


def _conflicts(error: Any) -> str:
    """``conflict with "kubectl": .spec.replicas``, one per field, from the details or else from the message."""
    causes = (_body(error).get("details") or {}).get("causes") or ()
    told = [f"{c.get('message')}: {c.get('field')}" for c in causes if c.get("reason") == "FieldManagerConflict"]
    return flat("; ".join(told) or message(error))


def flat(text: str, limit: int = 600) -> str:
    """One line of at most ``limit`` characters; Triton's load errors bring a table of many lines."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
